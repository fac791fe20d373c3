"""Documents as Mistral's OCR clients send them, and the pages that they read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from api.file_schemas import FileId
from api.openai_schemas import OcrBody, OcrUsageBody
from api.request_fields import Sent
from core.readings import Reading


class UrlObject(BaseModel):
    """An address in OpenAI's way."""

    model_config = ConfigDict(extra="ignore")

    url: str


class ImageDocument(BaseModel):
    """An image by its address, http(s) or data URL."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["image_url"]
    image_url: str | UrlObject

    @property
    def url(self) -> str:
        """The address."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


class UrlDocument(BaseModel):
    """The same by another name; it must be an image, too."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["document_url"]
    document_url: str

    @property
    def url(self) -> str:
        """The address."""
        return self.document_url


class FileDocument(BaseModel):
    """An upload of `/v1/files`."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["file"]
    file_id: FileId


class OcrRequest(Sent):
    """One image to read."""

    model: str = Field(max_length=256, description="A model of `GET /v1/models`.")
    document: ImageDocument | UrlDocument | FileDocument = Field(discriminator="type")
    id: str | None = None
    pages: list[int] | None = Field(None, description="[0]: an image is one page.")
    include_image_base64: bool | None = Field(None, description="Taken, and without effect, as the next two.")
    image_limit: int | None = None
    image_min_size: int | None = None

    @field_validator("pages")
    @classmethod
    def _the_only_page(cls, pages: list[int] | None) -> list[int] | None:
        if pages not in (None, [0]):
            raise ValueError("an image has page 0 only")
        return pages


class DimensionsBody(BaseModel):
    """Of the upright image, in pixels."""

    dpi: int = 0
    height: int
    width: int


class OcrPageBody(BaseModel):
    """What was read."""

    index: int
    markdown: str
    images: list[Any] = []
    dimensions: DimensionsBody


class UsageInfoBody(BaseModel):
    """What it took."""

    pages_processed: int
    doc_size_bytes: int | None = None
    ocr: OcrUsageBody


class OcrResponseBody(BaseModel):
    """A document that was read."""

    model: str
    pages: list[OcrPageBody]
    usage_info: UsageInfoBody
    document_annotation: None = None
    ocr: OcrBody

    @classmethod
    def of(cls, reading: Reading) -> OcrResponseBody:
        """Render a reading."""
        return cls(
            model=reading.model,
            pages=[
                OcrPageBody(
                    index=image.index,
                    markdown=image.text or "",
                    dimensions=DimensionsBody(height=image.height, width=image.width),
                )
                for image in reading.images
            ],
            usage_info=UsageInfoBody(pages_processed=len(reading.images), ocr=OcrUsageBody.of(reading)),
            ocr=OcrBody.of(reading),
        )
