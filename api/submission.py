"""A submission in one of its three forms (multipart, JSON, raw image) becomes one validated job."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from flask import Request
from pydantic import ValidationError

from api.image_urls import decode_base64, decode_data_url, fetch_image
from api.problems import malformed
from api.schemas import ImageSource, JobOptions, JobSubmission
from core.database import transaction
from core.errors import (
    InkqueueError,
    MalformedRequest,
    ModelNotFound,
    ModeNotAvailable,
    TooManyImages,
    UnsupportedImage,
)
from core.images import inspect_image
from core.jobs import MAX_IMAGES, NewImage, NewJob
from core.leases import served_models
from core.settings import settings
from core.states import Mode, Priority

_Judged = TypeVar("_Judged")
#: URLs of one submission that are fetched at once.
_FETCHES = 8
_METADATA_FIELD = re.compile(r"metadata\[(.+)\]")
#: As long as a caller's own key may be.
_MAX_KEY = 256
_JSON = "application/json"
_MULTIPART = "multipart/form-data"


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """An image as it was sent, not yet judged."""

    data: bytes
    key: str | None
    #: The field that held it, for error messages.
    param: str | None


def read_submission(request: Request) -> NewJob:
    """Read and judge a submission; all of it is in memory afterwards, and nothing is stored.

    Raises:
        InkqueueError: What is wrong with it, by its own class; `param` names the image at fault.
    """
    if request.mimetype == _JSON:
        options, sent = _read_json(request)
    elif request.mimetype == _MULTIPART:
        options, sent = _read_multipart(request)
    else:
        options, sent = _read_raw(request)
    if options.mode == "page":
        raise ModeNotAvailable("pages are not read yet; send single lines, or mode auto", param="mode")
    return NewJob(
        model=_known_model(options.model),
        mode=Mode(options.mode),
        priority=Priority[options.priority.upper()],
        max_lines=options.max_lines,
        metadata=options.metadata,
        images=[_judged(image) for image in sent],
    )


def _read_json(request: Request) -> tuple[JobOptions, list[_Sent]]:
    try:
        body = JobSubmission.model_validate_json(request.get_data(cache=False))
    except ValidationError as exc:
        raise malformed(exc) from exc
    _check_count(body.images)
    # Those that take no time are judged first, so that a bad one is not found after a minute of fetching.
    at_once = {i: _decoded(i, image) for i, image in enumerate(body.images) if not _is_remote(image)}
    remote = [(i, image) for i, image in enumerate(body.images) if _is_remote(image)]
    with ThreadPoolExecutor(_FETCHES) as pool:
        futures = {i: pool.submit(_fetched, i, image) for i, image in remote}
        try:
            fetched = {i: future.result() for i, future in futures.items()}
        except InkqueueError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return body, [(at_once | fetched)[i] for i in range(len(body.images))]


def _is_remote(image: ImageSource) -> bool:
    return image.url is not None and not image.url.lower().startswith("data:")


def _decoded(index: int, image: ImageSource) -> _Sent:
    sent_as, url = image.base64, image.url
    if sent_as is not None:
        param = f"images.{index}.base64"
        data = _naming(param, lambda: decode_base64(sent_as))
    else:
        assert url is not None
        param = f"images.{index}.url"
        data = _naming(param, lambda: decode_data_url(url))
    return _Sent(data=data, key=image.key, param=param)


def _fetched(index: int, image: ImageSource) -> _Sent:
    url = image.url
    assert url is not None
    param = f"images.{index}.url"
    return _Sent(data=_naming(param, lambda: fetch_image(url, settings())), key=image.key, param=param)


def _read_multipart(request: Request) -> tuple[JobOptions, list[_Sent]]:
    strangers = set(request.files) - {"image"}
    if strangers:
        raise MalformedRequest("files are sent in the field `image`, once each", param=min(strangers))
    files = request.files.getlist("image")
    if not files:
        raise MalformedRequest("there is no file in the field `image`", param="image")
    _check_count(files)
    options = _options(request.form.items(multi=True))
    return options, [
        _Sent(data=file.read(), key=_file_key(file.filename), param=f"image.{i}") for i, file in enumerate(files)
    ]


def _file_key(filename: str | None) -> str | None:
    # The name of a file tells its result from the others'; it comes without asking, so that an odd one is no error.
    return (filename or "").replace("\0", "")[:_MAX_KEY] or None


def _read_raw(request: Request) -> tuple[JobOptions, list[_Sent]]:
    if not request.mimetype.startswith("image/") and request.mimetype != "application/octet-stream":
        raise UnsupportedImage(
            f"the Content-Type {request.mimetype or '(none)'} is not understood: send application/json, "
            "multipart/form-data, or the image itself as image/..."
        )
    options = _options(request.args.items(multi=True))
    return options, [_Sent(data=request.get_data(cache=False), key=None, param=None)]


def _options(fields: Iterable[tuple[str, str]]) -> JobOptions:
    """Options out of a form or a query: `metadata` as JSON, or pair by pair as `metadata[name]`."""
    values: dict[str, object] = {}
    pairs: dict[str, str] = {}
    for name, value in fields:
        in_metadata = _METADATA_FIELD.fullmatch(name)
        if in_metadata:
            pairs[in_metadata[1]] = value
        elif name in values:
            raise MalformedRequest(f"{name} is given twice", param=name)
        else:
            values[name] = _parsed_json(name, value) if name == "metadata" else value
    if pairs:
        values["metadata"] = pairs
    try:
        return JobOptions.model_validate(values)
    except ValidationError as exc:
        raise malformed(exc) from exc


def _parsed_json(name: str, value: str) -> object:
    try:
        return json.loads(value)
    except ValueError as exc:
        raise MalformedRequest(f"{name} is not JSON", param=name) from exc


def _check_count(images: Sequence[object]) -> None:
    if len(images) > MAX_IMAGES:
        raise TooManyImages(f"a job holds at most {MAX_IMAGES} images, not {len(images)}")


def _known_model(name: str | None) -> str:
    if name is None:
        return settings().default_model
    if name in settings().models:
        return name
    with transaction() as connection:
        served = [model["name"] for model in served_models(connection)]
    if name not in served:
        known = ", ".join(sorted({*settings().models, *served}))
        raise ModelNotFound(f"there is no model {name}; these are here: {known}", param="model")
    return name


def _judged(image: _Sent) -> NewImage:
    limits = settings()
    header = _naming(
        image.param,
        lambda: inspect_image(image.data, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels),
    )
    return NewImage(data=image.data, header=header, key=image.key)


def _naming(param: str | None, judge: Callable[[], _Judged]) -> _Judged:
    """Run a judgement; an error of ours then names the field at fault."""
    try:
        return judge()
    except InkqueueError as error:
        error.param = error.param or param
        raise
