"""A TrOCR-family checkpoint: from a folder to a model that is ready to run, with all that its own files say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    GenerationConfig,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    VisionEncoderDecoderModel,
)
from transformers.models.trocr.modeling_trocr import TrOCRForCausalLM
from transformers.utils import logging as transformers_logging

from worker.beam_search import BeamRules
from worker.free_memory import free_bytes
from worker.recognizer import LinePixels, ModelCard, ModelUnavailable
from worker.trocr_openvino import openvino_computes
from worker.trocr_token_texts import TokenTexts

_log = structlog.get_logger(__name__)

#: A line's most tokens where the checkpoint does not say. Its `max_length` is not looked at: the hub's TrOCR configs
#: leave it at transformers' default of 20, which cuts lines in the middle.
_MAX_NEW_TOKENS = 128
#: Width over height, and height over width, that no line of text reaches.
_WIDEST = 128
_TALLEST = 16
#: The width over height that any model's own lines reach: nine in ten of our training lines are narrower.
_USUAL_ASPECT_RATIO = 20.0
#: Wishes of a generation config that would change tokens, and that no TrOCR checkpoint we know of has.
_UNHEEDED_WISHES = (
    *("bad_words_ids", "begin_suppress_tokens", "encoder_repetition_penalty", "forced_bos_token_id"),
    *("forced_eos_token_id", "min_length", "min_new_tokens", "sequence_bias", "suppress_tokens"),
)
#: The kinds of weights files, in the order in which transformers prefers them.
_WEIGHTS_FILES = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model on its device, and what belongs to it."""

    card: ModelCard
    #: In evaluation mode; its encoder in the format that the card names, but for OpenVINO in float32.
    model: VisionEncoderDecoderModel
    #: Whether OpenVINO computes with its weights. It takes them in float32, and rounds where that does least harm.
    in_openvino: bool
    #: The model's own, under its type.
    decoder: TrOCRForCausalLM
    image_processor: BaseImageProcessor
    tokenizer: PreTrainedTokenizerBase
    #: What the tokenizer's tokens write.
    texts: TokenTexts
    #: What every line begins with.
    start_token: int
    #: Any of these ends a line.
    end_tokens: frozenset[int]
    #: The most tokens of a line, as the checkpoint wishes and its positions allow.
    max_new_tokens: int
    #: Positions that the decoder has.
    positions: int
    #: What it says about beam search.
    beam_rules: BeamRules
    #: Changes to the scores that the checkpoint asks for, made before the best token is taken; mostly none.
    rules: LogitsProcessorList

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width that the encoder takes, in pixels."""
        size = self.model.encoder.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return height, width

    @property
    def max_aspect_ratio(self) -> float:
        """The width over height up to which a line is read well.

        What fits into a wide input is not squeezed at all. A square one squeezes every line; how far its model puts up
        with that depends on the lines that it learnt from, and nothing in a checkpoint tells of them.
        """
        height, width = self.picture_size
        return max(_USUAL_ASPECT_RATIO, width / height)

    def preprocessed(self, lines: Sequence[LinePixels]) -> Tensor:
        """The lines as the encoder takes them, (lines, 3, H, W), by the checkpoint's own image processor."""
        pictures = [bounded(line) for line in lines]
        # Without the channels' place, an image that is 3 pixels high is taken for one that has them in front.
        values = self.image_processor(pictures, return_tensors="pt", input_data_format="channels_last")
        pixel_values: Tensor = values["pixel_values"].to(self.model.device, self.model.encoder.dtype)
        return pixel_values


def bounded(line: LinePixels) -> LinePixels:
    """The line, or, where it is thinner than any text, the line with its last row or column repeated.

    Processors that keep the aspect ratio first enlarge the shorter side, which for a strip of one pixel takes
    gigabytes; and they shrink the other to nothing.
    """
    height, width = line.shape[:2]
    rows, columns = max(0, width // _WIDEST - height), max(0, height // _TALLEST - width)
    return np.pad(line, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else line


def load_checkpoint(
    folder: Path, *, name: str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> Checkpoint:
    """Load what lies in a folder, in the form that `save_pretrained` and the hub have.

    Raises:
        ModelUnavailable: It is not a TrOCR-family model, incomplete, damaged, or larger than the free memory.
    """
    # Neither progress bar nor table of unused weights belongs into the log; what is missing is judged below.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    _check_family(folder)
    weights = _weights_files(folder)
    _check_memory(name, weights)
    try:
        # On a CPU the smaller format is for the encoder, where most of the time goes; the decoder, whose choices are
        # close calls, stays exact.
        model, report = _model_and_report(folder, torch.float32 if device.type == "cpu" else dtype)
        in_openvino = device.type == "cpu" and openvino_computes(model.encoder, dtype)
        if not in_openvino:
            model.encoder.to(dtype=dtype)  # type: ignore[call-arg]  # the decorator hides the method's type
        # Pillow resizes as the models were trained; torchvision, where it is installed, is only similar.
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model.to(device)  # type: ignore[arg-type]  # as above
    except Exception as error:  # a damaged or incomplete folder shows itself in a dozen kinds of exceptions
        raise ModelUnavailable(f"{name} cannot be loaded from {folder}: {error}") from error
    _check_complete(name, report)
    return _assembled(
        model.eval(),  # type: ignore[no-untyped-call]
        image_processor,
        tokenizer,
        ModelCard(
            name=name,
            revision=revision,
            sha256=_sha256(weights),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        ),
        in_openvino=in_openvino,
    )


def _model_and_report(folder: Path, dtype: torch.dtype) -> tuple[VisionEncoderDecoderModel, set[str]]:
    """The model, and which of its weights the folder lacks."""
    loaded: Any = VisionEncoderDecoderModel.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    model, report = loaded
    return model, report["missing_keys"]


def _assembled(
    model: VisionEncoderDecoderModel,
    image_processor: BaseImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    card: ModelCard,
    *,
    in_openvino: bool,
) -> Checkpoint:
    wishes, decoder = model.generation_config, model.decoder
    # transformers makes the first where the checkpoint has none, and the second was looked at before loading
    assert wishes is not None
    assert isinstance(decoder, TrOCRForCausalLM)
    start = _token_id(model, "decoder_start_token_id") or _token_id(model, "bos_token_id")
    if start is None:
        raise ModelUnavailable(f"{card.name} does not say what a line begins with: no decoder_start_token_id")
    positions = decoder.config.max_position_embeddings
    return Checkpoint(
        card=card,
        model=model,
        in_openvino=in_openvino,
        decoder=decoder,
        image_processor=image_processor,
        tokenizer=tokenizer,
        texts=TokenTexts(tokenizer),
        start_token=start[0],
        end_tokens=frozenset(_token_id(model, "eos_token_id") or ()),
        max_new_tokens=min(wishes.max_new_tokens or _MAX_NEW_TOKENS, positions),
        positions=positions,
        beam_rules=BeamRules(
            length_penalty=1.0 if wishes.length_penalty is None else wishes.length_penalty,
            early_stopping=wishes.early_stopping or False,
        ),
        rules=_rules(wishes),
    )


def _token_id(model: VisionEncoderDecoderModel, name: str) -> tuple[int, ...] | None:
    """A special token, or several, from the first of the checkpoint's configs that names it."""
    for config in (model.generation_config, model.config, model.config.decoder):
        found = getattr(config, name, None)
        if found is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    return None


def _rules(wishes: GenerationConfig) -> LogitsProcessorList:
    if unheeded := [name for name in _UNHEEDED_WISHES if getattr(wishes, name, None)]:
        _log.warning("the checkpoint's generation config asks for more than is done", unheeded=unheeded)
    rules = LogitsProcessorList()
    if wishes.repetition_penalty not in (None, 1.0):
        rules.append(RepetitionPenaltyLogitsProcessor(wishes.repetition_penalty))
    if wishes.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(wishes.no_repeat_ngram_size))
    return rules


def _check_family(folder: Path) -> None:
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{folder} is not a model's folder: {error}") from error
    decoder = getattr(getattr(config, "decoder", None), "model_type", None)
    if decoder != "trocr":
        found = config.model_type + (f" with a {decoder} decoder" if decoder else "")
        raise ModelUnavailable(
            f"{folder} is not of the TrOCR family: it holds a {found} model, "
            "and a vision-encoder-decoder with a trocr decoder is needed"
        )


def _check_complete(name: str, missing: Iterable[str]) -> None:
    # The encoder's pooler is made anew where a checkpoint leaves it out; nothing here uses it.
    needed = sorted(key for key in missing if ".pooler." not in key)
    if needed:
        raise ModelUnavailable(f"the weights of {name} are incomplete: {', '.join(needed[:3])} and so on are missing")


def _weights_files(folder: Path) -> list[Path]:
    for pattern in _WEIGHTS_FILES:
        if files := sorted(folder.glob(pattern)):
            return files
    raise ModelUnavailable(f"{folder} holds no weights: neither {' nor '.join(_WEIGHTS_FILES)}")


def _check_memory(name: str, weights: Iterable[Path]) -> None:
    """Refuse what the system would kill the whole process for, in the middle of loading."""
    needed, free = sum(map(_loaded_bytes, weights)), free_bytes()
    if free is not None and needed > free:
        raise ModelUnavailable(
            f"there is not enough memory for {name}: its weights take {needed / 2**20:.0f} MiB, "
            f"and {free / 2**20:.0f} MiB are free"
        )


def _loaded_bytes(file: Path) -> int:
    """What a file's weights take in memory, in float32 as they are computed with; at least, where they are pickled."""
    if file.suffix != ".safetensors":
        return file.stat().st_size
    try:
        with safe_open(file, framework="np") as weights:
            names = weights.keys()
            shapes: list[list[int]] = [weights.get_slice(name).get_shape() for name in names]
    except SafetensorError:
        return file.stat().st_size  # it is damaged, as loading it will tell
    return 4 * sum(map(math.prod, shapes))


def _sha256(files: Iterable[Path]) -> str:
    """Of one file, or of several one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()
