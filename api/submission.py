"""A submission in one of its three forms (multipart, JSON, raw image) becomes one validated job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from flask import Request
from pydantic import ValidationError
from pydantic_core import from_json

from api.auth import caller
from api.json_bodies import read_json, whole_body
from api.model_choice import chosen_model
from api.problems import malformed
from api.request_schemas import ImageSource, JobOptions, JobSubmission
from api.sent_images import SentImage, from_base64, from_url, judged
from core.errors import (
    MalformedRequest,
    ModeNotAvailable,
    TooManyImages,
    UnsupportedImage,
)
from core.new_jobs import MAX_IMAGES, NewJob
from core.reading_options import ReadingOptions
from core.states import Mode, Priority
from core.webhook_events import EventType
from core.webhook_guard import check_webhook_url
from core.webhooks import JobWebhook

#: Query parameters that are no options of the job.
_NO_OPTIONS = frozenset({"dry_run"})
_METADATA_FIELD = re.compile(r"metadata\[(.+)\]")
#: As long as a caller's own key may be.
_MAX_KEY = 256
_JSON = "application/json"
#: Fields that are JSON also where all others are plain text.
_JSON_FIELDS = ("metadata", "webhook")
_MULTIPART = "multipart/form-data"


def read_submission(request: Request) -> NewJob:
    """Read and judge a submission; all of it is in memory afterwards, and nothing is stored.

    What takes no time is judged first, so that nothing is fetched for a submission that is refused anyway.

    Raises:
        InkqueueError: What is wrong with it, by its own class; `param` names the image at fault.
    """
    if request.mimetype in (_JSON, _MULTIPART):
        _refuse_options_in_query(request)
    if request.mimetype == _JSON:
        options, sent = _read_json(request)
    elif request.mimetype == _MULTIPART:
        options, sent = _read_multipart(request)
    else:
        options, sent = _read_raw(request)
    if options.mode == "page":
        raise ModeNotAvailable("pages are not read yet; send single lines, or mode auto", param="mode")
    model = chosen_model(options.model, beams=options.beams)
    webhook = _webhook(options)
    return NewJob(
        model=model,
        mode=Mode(options.mode),
        priority=Priority[options.priority.upper()],
        max_lines=options.max_lines,
        metadata=options.metadata,
        images=judged(sent, account_id=caller().account_id),
        webhook=webhook,
        deadline_s=options.deadline_s,
        reading=ReadingOptions(beams=options.beams),
    )


def _webhook(options: JobOptions) -> JobWebhook | None:
    if options.webhook_url is not None:
        check_webhook_url(options.webhook_url, param="webhook_url")
        return JobWebhook(url=options.webhook_url)
    if options.webhook is None:
        return None
    check_webhook_url(options.webhook.url, param="webhook.url")
    return JobWebhook(
        url=options.webhook.url,
        events=tuple(EventType(event) for event in options.webhook.events),
        include_text=options.webhook.include_text,
    )


def _refuse_options_in_query(request: Request) -> None:
    # Whoever writes them there would otherwise not learn that nobody reads them.
    for name in request.args:
        if name in JobOptions.model_fields or _METADATA_FIELD.fullmatch(name):
            raise MalformedRequest(
                f"{name} belongs into this body; options are query parameters where the body is the image", param=name
            )


def _read_json(request: Request) -> tuple[JobOptions, list[SentImage]]:
    body = read_json(request, JobSubmission)
    _check_count(body.images)
    return body, [_source(f"images.{index}", image) for index, image in enumerate(body.images)]


def _source(place: str, image: ImageSource) -> SentImage:
    if image.base64 is not None:
        return from_base64(image.base64, param=f"{place}.base64", key=image.key)
    if image.file_id is not None:
        return SentImage(file_id=image.file_id, param=f"{place}.file_id", key=image.key)
    assert image.url is not None
    return from_url(image.url, param=f"{place}.url", key=image.key)


def _read_multipart(request: Request) -> tuple[JobOptions, list[SentImage]]:
    # A part of a form may have no name.
    strangers = {name or "" for name in request.files} - {"image"}
    if strangers:
        raise MalformedRequest("files are sent in the field `image`, once each", param=min(strangers))
    files = request.files.getlist("image")
    if not files:
        raise MalformedRequest("there is no file in the field `image`", param="image")
    _check_count(files)
    options = _options(request.form.items(multi=True))
    return options, [
        SentImage(data=file.read(), key=_file_key(file.filename), param=f"image.{i}") for i, file in enumerate(files)
    ]


def _file_key(filename: str | None) -> str | None:
    # The name of a file tells its result from the others'; it comes without asking, so that an odd one is no error.
    return (filename or "").replace("\0", "")[:_MAX_KEY] or None


def _read_raw(request: Request) -> tuple[JobOptions, list[SentImage]]:
    if not request.mimetype.startswith("image/") and request.mimetype != "application/octet-stream":
        raise UnsupportedImage(
            f"the Content-Type {request.mimetype or '(none)'} is not understood: send application/json, "
            "multipart/form-data, or the image itself as image/..."
        )
    options = _options((name, value) for name, value in request.args.items(multi=True) if name not in _NO_OPTIONS)
    return options, [SentImage(data=whole_body(request), key=None, param=None)]


def _options(fields: Iterable[tuple[str, str]]) -> JobOptions:
    """Options out of a form or a query: `webhook` as JSON, `metadata` as JSON, or pair by pair as `metadata[name]`."""
    values: dict[str, object] = {}
    pairs: dict[str, object] = {}
    for name, value in ((name or "", value) for name, value in fields):
        in_metadata = _METADATA_FIELD.fullmatch(name)
        given, field = (pairs, in_metadata[1]) if in_metadata else (values, name)
        if field in given:
            raise MalformedRequest(f"{name} is given twice", param=name)
        given[field] = _parsed_json(name, value) if name in _JSON_FIELDS else value
    if pairs and "metadata" in values:
        raise MalformedRequest("metadata is given as JSON and pair by pair", param="metadata")
    if pairs:
        values["metadata"] = pairs
    try:
        return JobOptions.model_validate(values)
    except ValidationError as exc:
        raise malformed(exc) from exc


def _parsed_json(name: str, value: str) -> object:
    try:
        return from_json(value)
    except ValueError as exc:
        raise MalformedRequest(f"{name} is not JSON", param=name) from exc


def _check_count(images: Sequence[object]) -> None:
    if len(images) > MAX_IMAGES:
        raise TooManyImages(f"a job holds at most {MAX_IMAGES} images, not {len(images)}")
