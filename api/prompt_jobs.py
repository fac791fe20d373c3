"""A request for a text becomes a job: one line for each of its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.chat_schemas import ChatRequest
from api.model_choice import chosen_model
from api.ocr_schemas import FileDocument, OcrRequest
from api.response_schemas import ResponseRequest
from api.sent_images import SentImage, from_url, judged
from core.accounts import Caller
from core.errors import MalformedRequest, TooManyImages
from core.new_jobs import MAX_IMAGES, NewJob
from core.prices import price_list
from core.reading_options import ReadingOptions
from core.states import Mode, Priority

#: A page's ceiling, as that of `POST /v1/jobs`.
_PAGE_LINES = 40


@dataclass(frozen=True, kw_only=True)
class AskedLines:
    """A request for the text of lines, judged but for its images: they are not here yet."""

    model: str
    priority: Priority
    metadata: Mapping[str, str]
    options: ReadingOptions
    images: Sequence[SentImage]
    batch_id: str | None

    @property
    def held_micro(self) -> int:
        """What its job will hold."""
        price = price_list().price(self.model, Mode.LINE, self.priority, beams=self.options.beams)
        return price.line_micro * len(self.images)

    def job(self, account_id: str) -> NewJob:
        """Fetch and judge the images; one line each.

        Args:
            account_id: Whose job it will be, and whose uploads are read.

        Raises:
            InkqueueError: What is wrong with the first bad one; `param` names it.
        """
        return NewJob(
            model=self.model,
            mode=Mode.LINE,
            priority=self.priority,
            max_lines=1,
            metadata=self.metadata,
            images=judged(self.images, account_id=account_id),
            reading=self.options,
            batch_id=self.batch_id,
        )


def chat_lines(request: ChatRequest, *, priority: Priority, batch_id: str | None = None) -> AskedLines:
    """Judge a chat request.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    return _asked_lines(
        chosen_model(request.model, beams=request.reading_options.beams),
        [from_url(url, param=place, key=place) for place, url in request.image_urls()],
        priority=priority,
        metadata=request.metadata or {},
        options=request.reading_options,
        batch_id=batch_id,
    )


def response_lines(request: ResponseRequest, *, priority: Priority, batch_id: str | None = None) -> AskedLines:
    """Judge a request for a response.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    return _asked_lines(
        chosen_model(request.model, beams=request.reading_options.beams),
        [
            from_url(part.image_url, param=f"{place}.image_url", key=place)
            if part.image_url is not None
            else SentImage(file_id=part.file_id, param=f"{place}.file_id", key=place)
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
        sent = SentImage(file_id=document.file_id, param="document.file_id", key="document")
    else:
        sent = from_url(document.url, param=f"document.{document.type}", key="document")
    return NewJob(
        model=chosen_model(request.model, beams=1),
        mode=Mode.AUTO,
        priority=Priority.INTERACTIVE,
        max_lines=_PAGE_LINES,
        metadata={},
        images=judged([sent], account_id=caller.account_id),
    )


def _asked_lines(
    model: str,
    images: Iterable[SentImage],
    *,
    priority: Priority,
    metadata: dict[str, str],
    options: ReadingOptions,
    batch_id: str | None,
) -> AskedLines:
    sent = list(images)
    if not sent:
        raise MalformedRequest("there is no image: send each text line as a picture of its own")
    if len(sent) > MAX_IMAGES:
        raise TooManyImages(f"a request holds at most {MAX_IMAGES} images, not {len(sent)}")
    return AskedLines(
        model=model, priority=priority, metadata=metadata, options=options, images=sent, batch_id=batch_id
    )
