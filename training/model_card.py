"""The card of a trained model: what it is, what it learnt from, how well it reads, and how to make it again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from training.checkpoint import RunState
from training.fonts import FontFile
from training.plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card states."""

    name: str
    #: Where the weights began: a folder, a hub id, or None for random ones.
    base: str | None
    parameters: int
    #: The command line, as given.
    command: str
    #: Corpus names with their numbers of training and validation lines.
    corpora: dict[str, tuple[int, int]]
    #: SHA-256 over the training lines.
    data_sha256: str
    #: How validation lines were chosen.
    validation: str
    #: Number of synthetic lines, and the fonts they were drawn in.
    synthetic_lines: int
    fonts: Sequence[FontFile]
    plan: TrainingPlan
    state: RunState
    #: Share of the start in the final weights, which are an average.
    start_share: float
    device: str


def model_card(facts: CardFacts) -> str:
    """Write the card in Markdown, with the front matter that model hubs read."""
    corpora = "\n".join(f"| {name} | {train} | {held} |" for name, (train, held) in sorted(facts.corpora.items()))
    settings = "\n".join(f"| {name} | {value} |" for name, value in asdict(facts.plan).items())
    begun = f"fine-tuned from `{facts.base}`" if facts.base else "trained from random weights"
    return f"""---
library_name: transformers
pipeline_tag: image-to-text
tags: [trocr, handwritten-text-recognition]
---
# {facts.name}

A TrOCR-family text line recognizer (`VisionEncoderDecoderModel`, {facts.parameters / 1e6:.1f} M parameters, float16),
{begun}.

```python
from PIL import Image
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

processor = TrOCRProcessor.from_pretrained("{facts.name}")
model = VisionEncoderDecoderModel.from_pretrained("{facts.name}", dtype="float32").eval()
pixels = processor(images=Image.open("line.png").convert("RGB"), return_tensors="pt").pixel_values
print(processor.batch_decode(model.generate(pixels), skip_special_tokens=True)[0])
```

## Figures

Validation CER {facts.state.kept_cer:.3f}, WER {facts.state.kept_wer:.3f}; greedy, NFC, case and punctuation count.
Validation lines: {facts.validation}. They chose the weights, so unseen pages are read a little worse.

| corpus | training lines | validation lines |
|---|---|---|
{corpora}

SHA-256 over the training lines, images and texts: `{facts.data_sha256}`.

{_fonts(facts)}

## How it was made

`{facts.command}`

{_effort(facts)}

| setting | value |
|---|---|
{settings}

## Limits

It reads single text lines in the hands and languages of its corpora; other ones it reads worse, and it may write
fluent text that is not there.
"""


def _effort(facts: CardFacts) -> str:
    state = facts.state
    effort = f"{state.steps} steps, {state.lines} lines learnt from, {state.minutes:.1f} minutes on {facts.device}."
    if not facts.start_share:
        return effort
    return (
        f"{effort}\nThe final weights are an average: {facts.start_share:.0%} of the start's, the rest what was learnt."
    )


def _fonts(facts: CardFacts) -> str:
    if not facts.synthetic_lines:
        return "No synthetic lines."
    licences = sorted({font.licence for font in facts.fonts})
    listed = "; ".join(
        f"{licence}: {', '.join(font.name for font in facts.fonts if font.licence == licence)}" for licence in licences
    )
    return f"{facts.synthetic_lines} synthetic lines were drawn in these fonts. {listed}."
