"""A request for a text becomes a job: one line for each of its images."""

from __future__ import annotations

from collections.abc import Iterable

from api.chat_schemas import ChatRequest
from api.model_choice import chosen_model
from api.ocr_schemas import FileDocument, OcrRequest
from api.response_schemas import ResponseRequest
from api.sent_images import SentImage, from_file, from_url, judged
from core.accounts import Caller
from core.errors import MalformedRequest, TooManyImages
from core.jobs import MAX_IMAGES, NewJob
from core.reading_options import ReadingOptions
from core.states import Mode, Priority

#: A page's ceiling, as that of `POST /v1/jobs`.
_PAGE_LINES = 40


def chat_job(request: ChatRequest, *, priority: Priority, batch_id: str | None = None) -> NewJob:
    """Judge a chat request, and fetch its images.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    return _job_of_lines(
        chosen_model(request.model, beams=request.reading_options.beams),
        [from_url(url, param=place, key=place) for place, url in request.image_urls()],
        priority=priority,
        metadata=request.metadata or {},
        options=request.reading_options,
        batch_id=batch_id,
    )


def response_job(
    request: ResponseRequest, caller: Caller, *, priority: Priority, batch_id: str | None = None
) -> NewJob:
    """Judge a request for a response, and fetch its images.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    return _job_of_lines(
        chosen_model(request.model, beams=request.reading_options.beams),
        [
            from_url(part.image_url, param=f"{place}.image_url", key=place)
            if part.image_url is not None
            else from_file(caller, part.file_id or "", param=f"{place}.file_id", key=place)
            for place, part in request.images()
        ],
        priority=priority,
        metadata=request.metadata or {},
        options=request.reading_options,
        batch_id=batch_id,
    )


def ocr_job(request: OcrRequest, caller: Caller) -> NewJob:
    """Judge a document, and fetch it.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    document = request.document
    if isinstance(document, FileDocument):
        sent = from_file(caller, document.file_id, param="document.file_id", key="document")
    else:
        sent = from_url(document.url, param=f"document.{document.type}", key="document")
    return NewJob(
        model=chosen_model(request.model, beams=1),
        mode=Mode.AUTO,
        priority=Priority.INTERACTIVE,
        max_lines=_PAGE_LINES,
        metadata={},
        images=judged([sent]),
    )


def _job_of_lines(
    model: str,
    images: Iterable[SentImage],
    *,
    priority: Priority,
    metadata: dict[str, str],
    options: ReadingOptions,
    batch_id: str | None,
) -> NewJob:
    """A job that reads images as one line each, for callers who want the text.

    Raises:
        InkqueueError: There is no image, there are too many, or one is bad.
    """
    sent = list(images)
    if not sent:
        raise MalformedRequest("there is no image: send each text line as a picture of its own")
    if len(sent) > MAX_IMAGES:
        raise TooManyImages(f"a request holds at most {MAX_IMAGES} images, not {len(sent)}")
    return NewJob(
        model=model,
        mode=Mode.LINE,
        priority=priority,
        max_lines=1,
        metadata=metadata,
        images=judged(sent),
        reading=options,
        batch_id=batch_id,
    )
