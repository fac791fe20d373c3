"""Every setting of the service: environment variables, read once into one frozen object."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_LEAST_SECRET_KEY = 32


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """What an operator can set; a wrong value stops the process at start.

    A field `max_image_bytes` is set by `INKQUEUE_MAX_IMAGE_BYTES`; only the two addresses go by their usual names.
    """

    # A value that is refused may be a secret: the error names the setting alone.
    model_config = SettingsConfigDict(env_prefix="INKQUEUE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: str = Field("postgresql+psycopg://inkqueue@localhost/inkqueue", validation_alias="DATABASE_URL")
    """Postgres 15 or newer, as an SQLAlchemy address; `postgres://` is understood."""

    redis_url: str = Field("redis://localhost:6379/0", validation_alias="REDIS_URL")
    """Redis 7 or Valkey: tickets and notices; `redis+socket:///path` for a Unix socket."""

    storage_url: str = "file:///var/lib/inkqueue/images"
    """Where images rest: `file:///folder`, or `s3://bucket/prefix` with the usual AWS_ variables."""

    models: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("trocr-tiny", "ppocr-v6")
    """Models that workers serve, comma separated: `trocr-tiny`, `ppocr-v6`, a hub id, or a folder; the first is the
    default of jobs that name none."""

    model_dir: Path = Path(__file__).resolve().parent.parent / "models"
    """Folder of the bundled models."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where TrOCR models run; `auto` takes CUDA where there is one, and the log says which."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of TrOCR models, on a CPU of their encoder; `auto` is bfloat16 where the device computes in it,
    else float32."""

    rows: Annotated[int, Field(ge=0, le=1024)] = 0
    """Lines that a TrOCR model reads at once; 0 lets it choose for its device. More rows raise lines per second and the
    time of each line."""

    decode_processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that turn image bytes into pixels, apart from the model's process."""

    decode_timeout_s: Annotated[float, Field(gt=0, le=300)] = 20.0
    """Longest time that one image may take to decode; after it the image fails as `invalid_image`."""

    decode_memory_bytes: Annotated[int, Field(ge=2**28)] = 2 * 2**30
    """Address space that a decoding process may take beyond what it starts with."""

    lease_s: Annotated[float, Field(ge=3, le=300)] = 15.0
    """A worker that is silent for so long is taken for dead, and its images are given back. A process that stands still
    inside a transaction for so long loses its locks."""

    stall_s: Annotated[float, Field(ge=5, le=600)] = 30.0
    """A worker with lines in rows and no decode step for so long ends itself."""

    max_image_bytes: Annotated[int, Field(ge=1024)] = 20 * 2**20
    """Largest image file."""

    max_image_pixels: Annotated[int, Field(ge=1024)] = 60_000_000
    """Most pixels (width x height) of one image, judged from its header before anything is decoded."""

    max_request_bytes: Annotated[int, Field(ge=1024)] = 256 * 2**20
    """Largest request body."""

    max_bodies_bytes: Annotated[int, Field(ge=1024)] = 768 * 2**20
    """Request bodies of more than 1 MiB that one API process has in hand at once, in bytes; an account may have half of
    it. They are held in memory up to three times."""

    url_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Budget for fetching one image URL, all redirects included."""

    url_allow_cidrs: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks, comma separated, that image URLs may point to although they are private."""

    url_allow_ports: Annotated[tuple[int, ...], NoDecode] = (80, 443)
    """Ports that image URLs may name."""

    secret_key: str = ""
    """Encrypts the secrets of webhooks in the database; any 32 characters or more that nobody can guess; without it
    there are no webhooks, and under another one those secrets must be rotated."""

    secrets_dir: str = ""
    """Folder of files that hold settings, each named like its variable, such as `database_url`; a variable that is set
    goes before its file."""

    public_url: Annotated[str, Field(pattern=r"^(|https?://[^\s]+[^\s/])$")] = ""
    """Address under which callers reach the API, such as `https://ocr.example.org`; it stands before the links in
    webhooks."""

    webhook_allow_cidrs: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks, comma separated, that webhooks may be sent to although they are private."""

    webhook_allow_ports: Annotated[tuple[int, ...], NoDecode] = (80, 443)
    """Ports that webhooks may be sent to."""

    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    """Longest time for one attempt of a webhook, from the connection to the answer."""

    webhook_schedule_scale: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor on all times between attempts, and until a dead endpoint is disabled or what waits for its turn is given
    up; small ones let you try it."""

    webhook_log_days: Annotated[float, Field(gt=0)] = 30.0
    """Days after which an ended delivery leaves the log."""

    retention_days: Annotated[float, Field(ge=0)] = 0.0
    """Days after which images, text and metadata of an ended job are deleted, and the requests of an ended batch; 0
    keeps them for ever. An account may have its own: `inkqueue retention`."""

    signup_grant_credits: Annotated[int, Field(ge=0)] = 1000
    """Credits that a new account starts with; one credit reads one line."""

    low_credits: Annotated[int, Field(ge=0)] = 100
    """Balance below which an account is told that its credits run low (webhook `credits.low`); 0: it never is. An
    account may have its own: `inkqueue accounts low-credits`."""

    prices: Path = Path(__file__).resolve().parent / "prices.toml"
    """File of the prices; copy the one that comes with the service, and raise its version with each change."""

    requests_per_minute: Annotated[int, Field(ge=0)] = 60_000
    """Requests that one account may make in a minute; 0: any number."""

    lines_per_minute: Annotated[int, Field(ge=0)] = 600_000
    """Lines that one account may submit in a minute; 0: any number."""

    max_jobs_in_flight: Annotated[int, Field(ge=0)] = 10_000
    """Jobs of one account that may be queued or running at once; 0: any number."""

    max_open_batches: Annotated[int, Field(ge=0)] = 100
    """Batches of one account that may be open at once; 0: any number."""

    max_stored_bytes: Annotated[int, Field(ge=0)] = 0
    """Bytes of images and files that one account may have stored, until it deletes them; 0: any number."""

    max_queued_images: Annotated[int, Field(ge=0)] = 100_000
    """Images, at least as urgent as a new job, that may wait for its model before it is refused; 0: any number. More
    let a burst in, and make its last image wait longer."""

    max_queue_age_s: Annotated[int, Field(ge=0)] = 86_400
    """How long the oldest of them may have waited before a new job is refused; 0: for ever."""

    api_threads: Annotated[int, Field(ge=8, le=4096)] = 1024
    """Requests that one API process answers at once; three quarters of them may be long polls and streams."""

    api_processes: Annotated[int, Field(ge=1, le=64)] = 1
    """API processes."""

    max_waiting_per_account: Annotated[int, Field(ge=0)] = 640
    """Long polls and streams of one account that may wait at once in one API process; one more is answered at once."""

    metrics: bool = False
    """Whether the API answers `GET /metrics`, to anybody who reaches it."""

    metrics_address: Annotated[str, Field(pattern=r"^(|[^\s]+:\d{1,5})$")] = ""
    """`host:port` at which each process serves its metrics; empty: nowhere."""

    log_format: Literal["console", "json"] = "json"
    """Log lines for people or for machines."""

    otlp_endpoint: str = Field("", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """OpenTelemetry collector that traces are sent to over HTTP, such as `http://collector:4318`; empty: none. Other
    variables of OpenTelemetry hold as usual."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least serious level that is logged."""

    _split_lists = field_validator(
        "models", "url_allow_cidrs", "url_allow_ports", "webhook_allow_cidrs", "webhook_allow_ports", mode="before"
    )(_split)

    @field_validator("secret_key")
    @classmethod
    def _not_guessable(cls, key: str) -> str:
        if 0 < len(key) < _LEAST_SECRET_KEY:
            raise ValueError(f"a secret key has at least {_LEAST_SECRET_KEY} characters")
        return key

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: str) -> str:
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @property
    def default_model(self) -> str:
        """The model of jobs that name none."""
        return self.models[0]


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read from the environment and from files of secrets at the first call."""
    told = Settings()
    return Settings(_secrets_dir=told.secrets_dir) if told.secrets_dir else told
