"""Checkpoints on the Hugging Face hub, fetched once into its cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

#: `ctc_head` is what training leaves beside a small model's weights.
_WANTED = ("*.json", "*.model", "*.txt", "model*.safetensors", "ctc_head.safetensors")


class CheckpointUnavailable(Exception):
    """A checkpoint is not to be had; the message is for whoever named it."""


class NoRepositoryId(CheckpointUnavailable):
    """A name that no repository can have."""


def fetched_checkpoint(repository: str, revision: str | None = None) -> Path:
    """The folder of a repository's files in the cache; its name is the commit's hash.

    Only what a reader or a training may need is fetched: pickled weights only where there are no safetensors, and no
    other framework's.
    Without a network, and with HF_HUB_OFFLINE=1, the cache alone is asked.

    Raises:
        NoRepositoryId: No repository can have that name.
        CheckpointUnavailable: There is no such repository or revision, or the hub is out of reach and the cache lacks
            it.
    """
    try:
        folder = _fetched(repository, revision, *_WANTED)
        if not any(folder.glob("model*.safetensors")):
            folder = _fetched(repository, revision, "pytorch_model*.bin")
    except HFValidationError as error:
        raise NoRepositoryId(f"{repository} is no folder, and cannot be the id of a hub repository") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointUnavailable(
            f"{repository} is not whole in the hub's local cache, and the hub cannot be reached; "
            "connect once, or copy the checkpoint into a folder and name that"
        ) from error
    except HfHubHTTPError as error:
        wanted = f"{repository} at {revision}" if revision else repository
        raise CheckpointUnavailable(f"the hub has no {wanted}, or wants a login (HF_TOKEN) for it: {error}") from error
    return folder


def _fetched(repository: str, revision: str | None, *patterns: str) -> Path:
    return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
