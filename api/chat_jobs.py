"""A chat request becomes a job: one line for each of its images."""

from __future__ import annotations

from collections.abc import Iterable

from api.chat_schemas import ChatRequest
from api.model_choice import chosen_model
from api.sent_images import SentImage, from_url, judged
from core.errors import MalformedRequest, TooManyImages
from core.jobs import MAX_IMAGES, NewJob
from core.reading_options import ReadingOptions
from core.states import Mode, Priority


def chat_job(request: ChatRequest, *, priority: Priority) -> NewJob:
    """Judge a chat request, and fetch its images.

    Raises:
        InkqueueError: What is wrong with it; `param` names the part at fault.
    """
    options = request.reading_options
    model = chosen_model(request.model, beams=options.beams)
    images = [from_url(url, param=place, key=place) for place, url in request.image_urls()]
    return job_of_lines(model, images, priority=priority, metadata=request.metadata or {}, options=options)


def job_of_lines(
    model: str,
    images: Iterable[SentImage],
    *,
    priority: Priority,
    metadata: dict[str, str],
    options: ReadingOptions,
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
    )
