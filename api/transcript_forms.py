"""A job's transcript in the form that its caller wants."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import assert_never
from zipfile import ZIP_DEFLATED, ZipFile

from flask import Response

from api.alto import alto_of
from api.hocr import hocr_of
from api.page_xml import page_xml_of
from api.request_schemas import TranscriptForm
from api.schemas import ImageBody, ImageListBody
from api.transcribed import TranscribedImage
from api.transcript_table import table_of
from core.image_views import ImageView
from core.job_views import JobReading
from core.transcript import whole_text

_TEXT = {"schema": {"type": "string"}}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
#: For the API's description.
CONTENT = {
    "text/plain": _TEXT,
    "application/json": {"schema": {"type": "object"}},
    "text/html": _TEXT,
    "text/tab-separated-values": _TEXT,
    "application/xml": _BYTES,
    "application/zip": _BYTES,
}
#: File systems take names of 255 bytes.
_MAX_NAME_BYTES = 200
_FOLDERS = re.compile(r"^.*[/\\]", re.DOTALL)
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
_UNSAFE = re.compile(r'[\s\x00-\x1f\x7f:*?"<>|]+')


def transcript_in(form: TranscriptForm, job: JobReading, images: Sequence[ImageView]) -> Response:
    """What was read so far in all images of a job."""
    if form == "txt":
        return Response(whole_text([image.text for image in images]) + "\n", mimetype="text/plain")
    if form == "json":
        body = ImageListBody(data=[ImageBody.of(image) for image in images], has_more=False, next_cursor=None)
        return Response(body.model_dump_json(), mimetype="application/json")
    transcribed = [TranscribedImage.of(image, model=job.model, read_at=job.ended_at) for image in images]
    if form == "hocr":
        return Response(hocr_of(transcribed), mimetype="text/html")
    if form == "tsv":
        return Response(table_of(transcribed), mimetype="text/tab-separated-values")
    if form == "alto":
        return _documents(job.id, form, transcribed, [alto_of(image) for image in transcribed])
    if form == "page":
        return _documents(job.id, form, transcribed, [page_xml_of(image) for image in transcribed])
    assert_never(form)


def _documents(job_id: str, form: str, images: Sequence[TranscribedImage], documents: Sequence[bytes]) -> Response:
    """The document of the only image, or an archive of one for each."""
    if len(documents) == 1:
        return Response(documents[0], mimetype="application/xml")
    answer = Response(zipped(images, documents), mimetype="application/zip")
    answer.headers["Content-Disposition"] = f'attachment; filename="{job_id}.{form}.zip"'
    return answer


def zipped(images: Sequence[TranscribedImage], documents: Sequence[bytes]) -> bytes:
    """A zip archive of the documents of images."""
    archive = io.BytesIO()
    with ZipFile(archive, "w", ZIP_DEFLATED) as files:
        for image, document in zip(images, documents, strict=True):
            files.writestr(file_name_of(image), document)
    return archive.getvalue()


def file_name_of(image: TranscribedImage) -> str:
    """What its document is called in an archive: in order, each something else, and nothing that leads elsewhere."""
    stem = _SUFFIX.sub("", _FOLDERS.sub("", image.name))
    safe = _UNSAFE.sub("_", stem).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return f"{image.number:04}-{safe}.xml"
