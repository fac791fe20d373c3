"""The uploaded images that one submission names, taken out of the storage side by side."""

from __future__ import annotations

from collections.abc import Mapping

from core import files, job_files
from core.errors import ImageTooLarge, InkqueueError, NotFound
from core.settings import settings


def take_images(account_id: str, file_ids: Mapping[str, str], *, room_bytes: int) -> dict[str, bytes]:
    """Take images of an account out by name; the first that is wrong fails all, and its error has the name as `param`.

    Args:
        account_id: Whose uploads.
        file_ids: Which, by name.
        room_bytes: How large they may be together: a short request can name many large files.

    Raises:
        NotFound: One was not uploaded, or not by this account.
        ImageTooLarge: One is larger than an image may be, or all together than a request may be.
        Unavailable: The storage does not answer.
    """
    sizes = files.sizes(account_id, set(file_ids.values())) if file_ids else {}
    for name, file_id in file_ids.items():
        if file_id not in sizes:
            raise NotFound(f"there is no file {file_id}", param=name)
        if sizes[file_id] > (most_bytes := settings().max_image_bytes):
            raise ImageTooLarge(f"the image is larger than {most_bytes:,} bytes", param=name)
        room_bytes -= sizes[file_id]
        if room_bytes < 0:
            raise ImageTooLarge("the images are together larger than a request may be", param=name)

    def take(name: str) -> bytes:
        try:
            return b"".join(files.content(file_ids[name]))
        except InkqueueError as error:
            error.param = name
            raise

    names = list(file_ids)
    return dict(zip(names, job_files.for_each(names, take), strict=True))
