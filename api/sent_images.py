"""Images as callers send them, bytes or where the bytes are, become images that are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from api.image_urls import decode_base64, decode_data_url
from api.remote_images import fetch_images
from core import files
from core.accounts import Caller
from core.errors import ImageTooLarge, InkqueueError
from core.images import inspect_image
from core.new_jobs import NewImage
from core.settings import settings

_Judged = TypeVar("_Judged")


@dataclass(frozen=True, kw_only=True)
class SentImage:
    """An image as it was sent, not yet judged."""

    #: The field that held it, for error messages.
    param: str | None
    key: str | None = None
    data: bytes = b""
    #: An http(s) address; then there is no data.
    url: str | None = None
    #: Takes the data out of the storage, where it was uploaded before.
    stored: Callable[[], bytes] | None = None

    def bytes_here(self) -> bytes:
        """The data of an image that has no address.

        Raises:
            NotFound: It was not uploaded, or not by this account.
            ImageTooLarge: It is larger than an image may be.
            Unavailable: The storage does not answer.
        """
        return self.data if self.stored is None else _naming(self.param, self.stored)


def from_base64(text: str, *, param: str, key: str | None = None) -> SentImage:
    """An image that was sent as base64.

    Raises:
        MalformedRequest: It is not base64.
    """
    return SentImage(param=param, key=key, data=_naming(param, lambda: decode_base64(text)))


def from_url(url: str, *, param: str, key: str | None = None) -> SentImage:
    """An image that was sent as an address, http(s) or data URL.

    Raises:
        MalformedRequest: It is a data URL that cannot be understood.
    """
    if not url.lower().startswith("data:"):
        return SentImage(param=param, key=key, url=url)
    return SentImage(param=param, key=key, data=_naming(param, lambda: decode_data_url(url)))


def from_file(caller: Caller, file_id: str, *, param: str, key: str | None = None) -> SentImage:
    """An image that was uploaded before, to `/v1/files`; whether it was is seen when it is judged."""
    return SentImage(param=param, key=key, stored=lambda: files.image_of(caller, file_id))


def judged(images: Sequence[SentImage]) -> list[NewImage]:
    """Judge images by their headers; what has to be fetched is fetched last, when nothing else is wrong.

    Raises:
        InkqueueError: What is wrong with the first bad one, by its own class; `param` names it.
    """
    here: dict[int, NewImage] = {}
    room_bytes = settings().max_request_bytes
    for index, image in enumerate(images):
        if image.url is None:
            here[index] = _judged(image, image.bytes_here())
            # A short request can name many large files.
            room_bytes -= len(here[index].data)
            if room_bytes < 0:
                raise ImageTooLarge("the images are together larger than a request may be", param=image.param)
    fetched = fetch_images({str(image.param): image.url for image in images if image.url is not None})
    return [
        here[index] if image.url is None else _judged(image, fetched[str(image.param)])
        for index, image in enumerate(images)
    ]


def _judged(image: SentImage, data: bytes) -> NewImage:
    limits = settings()
    header = _naming(
        image.param,
        lambda: inspect_image(data, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels),
    )
    return NewImage(data=data, header=header, key=image.key)


def _naming(param: str | None, judge: Callable[[], _Judged]) -> _Judged:
    """Run a judgement; an error of ours then names the field at fault."""
    try:
        return judge()
    except InkqueueError as error:
        error.param = error.param or param
        raise
