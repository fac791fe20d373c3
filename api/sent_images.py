"""Images as callers send them, bytes or where the bytes are, become images that are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from api.image_urls import decode_base64, decode_data_url
from api.remote_images import fetch_images
from api.stored_images import take_images
from core.errors import InkqueueError
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
    #: The id of an image that was uploaded before; then there is none either.
    file_id: str | None = None


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


def judged(images: Sequence[SentImage], *, account_id: str) -> list[NewImage]:
    """Judge images by their headers: those that are here, then those in the storage, then those that others serve.

    What takes longer is begun when nothing else is wrong.

    Args:
        images: As they were sent.
        account_id: Whose uploads they may be.

    Raises:
        RateLimited: Too many requests fetch images at this moment.
        InkqueueError: What is wrong with the first bad one, in that order, by its own class; `param` names it.
    """
    sent = {str(image.param): image for image in images}
    data = {name: image.data for name, image in sent.items() if image.file_id is None and image.url is None}
    new = {name: _judged(sent[name], each) for name, each in data.items()}
    uploads = {name: image.file_id for name, image in sent.items() if image.file_id is not None}
    room_bytes = settings().max_request_bytes - sum(map(len, data.values()))
    stored = take_images(account_id, uploads, room_bytes=room_bytes)
    new |= {name: _judged(sent[name], each) for name, each in stored.items()}
    urls = {name: image.url for name, image in sent.items() if image.url is not None}
    fetched = fetch_images(urls, account_id=account_id)
    new |= {name: _judged(sent[name], each) for name, each in fetched.items()}
    return [new[name] for name in sent]


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
