"""`python -m training`: train a TrOCR-family model, from scratch or from any checkpoint, on lines with texts."""

from pathlib import Path
from typing import Annotated

import typer

from training.run import train
from training.run_request import RunRequest
from training.unusable_input import UnusableInput

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Folder for the model; its state is kept beside it, in <out>.state.")],
    data: Annotated[
        list[Path],
        typer.Option(exists=True, help="Lines with texts: a TSV, or a folder of TSV, .gt.txt, ALTO or PAGE files."),
    ],
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or hub id to start from; none: a new model.")
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="Lines to validate on; else forms are held back from the data."),
    ] = None,
    fonts: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, file_okay=False, help="Folders of font packages for synthetic lines; none: real lines only."
        ),
    ] = None,
    words: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Word lists for lines that are drawn or joined anew."),
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Files of running text, a paragraph a line, for lines drawn or joined anew, beside the data's own.",
        ),
    ] = None,
    synthetic_lines: Annotated[int, typer.Option(min=1, help="Synthetic lines to draw, once.")] = 150_000,
    minutes: Annotated[
        float,
        typer.Option(min=0.01, help="Minutes to train for, evaluation included; a fine-tune evaluates thrice more."),
    ] = 60.0,
    most_views: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="It ends before, when each line was learnt from so often; 400 for a checkpoint, else 0: never.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; 1e-3 for a new model, 4e-5 for a checkpoint.")
    ] = None,
    ctc_weight: Annotated[
        float | None,
        typer.Option(help="Weight of CTC on the encoder's columns; 0.7 for models of this command, else 0."),
    ] = None,
    real_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of real lines.")] = 0.6,
    mixed_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of real lines joined anew from words or letters, if the start is a model of this command.",
        ),
    ] = 0.5,
    dropout: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="Share of features dropped; none: as the checkpoint says.")
    ] = None,
    augmentation: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="How far lines are varied; 0.4 for a new model, 0.7 for a checkpoint."),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Encoder tokens per batch and process; 2500, or 1000 to fine-tune a model of this command."
        ),
    ] = None,
    short_lines: Annotated[
        int | None, typer.Option(help="Lines over which texts grow long; 60000 for a new model, else 0.")
    ] = None,
    evaluate_minutes: Annotated[
        float | None, typer.Option(help="Minutes between evaluations; a tenth of all, at most 5.")
    ] = None,
    patience: Annotated[int, typer.Option(min=1, help="Evaluations without a better CER before it stops.")] = 12,
    processes: Annotated[int, typer.Option(min=1, help="CPU processes that learn as one; 1 on a GPU.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything that is left to chance.")] = 7,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of this folder.")] = False,
) -> None:
    """Train a text line recognizer and leave a folder that the worker serves as it is."""
    request = RunRequest(
        out=out,
        data=tuple(data),
        model=model,
        validation=tuple(validation or ()),
        fonts=tuple(fonts or ()),
        words=tuple(words or ()),
        texts=tuple(texts or ()),
        synthetic_lines=synthetic_lines,
        minutes=minutes,
        most_views=most_views,
        learning_rate=learning_rate,
        ctc_weight=ctc_weight,
        real_share=real_share,
        mixed_share=mixed_share,
        dropout=dropout,
        augmentation=augmentation,
        batch_tokens=batch_tokens,
        short_lines=short_lines,
        evaluate_minutes=evaluate_minutes,
        patience=patience,
        processes=processes,
        device=device,
        seed=seed,
        resume=resume,
    )
    try:
        train(request)
    except UnusableInput as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    app()
