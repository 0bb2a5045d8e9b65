"""The commands: what each is for, examples to copy, and what it does with the settings as typed."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

# What a command needs is imported when it runs: help, and mistakes in settings, answer without torch and ray.


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        summary: a line for the user.
        examples: settings to copy, each with what they ask for.
        run: takes the settings as typed, returns the exit code.
    """

    summary: str
    examples: tuple[tuple[str, str], ...]
    run: Callable[[Sequence[str]], int]


def _batch(command: str, overrides: Sequence[str]) -> int:
    from uniface_ray.core.compose import compose

    config = compose(command, overrides)
    from uniface_ray.batch.driver import run

    return run(config).exit_code


def _train(overrides: Sequence[str]) -> int:
    from uniface_ray.core.compose import compose
    from uniface_ray.core.train_config import TrainConfig

    config = compose("train", overrides, TrainConfig)
    from uniface_ray.train.driver import run

    return run(config).exit_code


def _status(overrides: Sequence[str]) -> int:
    from uniface_ray.core.compose import compose
    from uniface_ray.core.sink_config import StatusConfig

    config = compose("status", overrides, StatusConfig)
    from uniface_ray.batch.status import read_status

    return _show(read_status(config), config.status.format)


def _verify(overrides: Sequence[str]) -> int:
    from uniface_ray.core.compose import compose
    from uniface_ray.core.sink_config import VerifyConfig

    config = compose("verify", overrides, VerifyConfig)
    from uniface_ray.batch.verify import verify

    return _show(verify(config), config.verify.format)


def _replay_rejects(overrides: Sequence[str]) -> int:
    from uniface_ray.batch.replaying import compose_again

    config, replay = compose_again(overrides)
    from uniface_ray.batch.driver import run

    return run(config, replay).exit_code


def _evaluate(overrides: Sequence[str]) -> int:
    from uniface_ray.batch.evaluating import compose_evaluation, evaluate

    return evaluate(compose_evaluation(overrides))


def _serve(overrides: Sequence[str]) -> int:
    from uniface_ray.core.compose import compose
    from uniface_ray.core.serve_config import ServeConfig

    config = compose("serve", overrides, ServeConfig)
    from uniface_ray.serve.command import run

    return run(config)


class _Answer(Protocol):
    """What a command that only looks has found."""

    @property
    def exit_code(self) -> int: ...

    def lines(self) -> list[tuple[str, str]]: ...

    def to_json(self) -> str: ...


def _show(answer: _Answer, form: str) -> int:
    """Print an answer, and give its exit code."""
    from uniface_ray.core.view import View

    if form == "json":
        tell(answer.to_json())
    else:
        View.for_console(None, 1.0).finish(answer.lines())
    return answer.exit_code


COMMANDS = {
    "caption": Command(
        "a caption for every face image of a folder, a bucket or a table",
        (
            ("source=demo sink.path=out/demo", "the portraits that ship with the package"),
            ("source.path=faces/ sink.path=out/faces run.limit=100", "the first hundred images of a folder"),
            (
                "source.path=s3://bucket/faces/ sink.path=s3://bucket/captions/",
                "all images of a bucket's folder",
            ),
            (
                "source.path=faces.parquet 'source.keep_columns=[id]' sink.path=out/table",
                "a table whose column `image` holds encoded images",
            ),
        ),
        partial(_batch, "caption"),
    ),
    "vqa": Command(
        "answers to one or several questions about every face image",
        (
            ("source=demo sink.path=out/vqa 'task.question=Is this person smiling?'", "one question, all portraits"),
            (
                "source.path=faces/ sink.path=out/vqa 'task.questions=[Is she smiling?,Is her hair long or short?]'",
                "several questions, an output row for each",
            ),
            (
                "source.path=faces.parquet source.question_column=questions sink.path=out/vqa",
                "a table that has its own questions for each image, a text or a list of texts",
            ),
        ),
        partial(_batch, "vqa"),
    ),
    "generate": Command(
        "faces drawn from prompts",
        (
            ("source=demo-prompts sink.path=out/drawn", "the prompts that ship with the package"),
            (
                "source.path=prompts.jsonl sink.path=out/drawn task.images_per_prompt=4 task.files=true",
                'a table with a column `prompt`, as in {"prompt": "a smiling woman"}; also as files under files/',
            ),
            (
                "source.path=prompts.csv source.prompt_column=text sink.path=out/best task.best_of=4",
                "the best of four tries for each prompt, in the model's own eyes, and all scores",
            ),
        ),
        partial(_batch, "generate"),
    ),
    "edit": Command(
        "a region of every face image drawn anew from a prompt",
        (
            (
                "source=demo sink.path=out/edited 'task.prompt=a smiling woman' 'task.box=[0.2,0.6,0.8,0.9]'",
                "the same region of all portraits, as fractions of width and height: left, top, right, bottom",
            ),
            (
                "source.path=faces.parquet source.mask_column=mask source.prompt_column=prompt sink.path=out/edited",
                "a table that has a mask (white where to draw) and a prompt for each image",
            ),
        ),
        partial(_batch, "edit"),
    ),
    "score": Command(
        "how well face images and texts fit, from 0 to 1",
        (
            ("source=demo sink.path=out/scores 'task.text=a smiling woman'", "one text for all portraits"),
            (
                "source.path=faces.parquet source.text_column=caption sink.path=out/scores",
                "a table that has a text, or a list of texts, for each image",
            ),
        ),
        partial(_batch, "score"),
    ),
    "tokenize": Command(
        "face images and texts about them as training reads them: image codes, features, captions, questions, answers",
        (
            (
                "source.path=faces.parquet source.caption_column=caption sink.path=out/tokens",
                "a table that has a caption, or a list of captions, for each image",
            ),
            (
                "source=llava source.path=chats.jsonl sink.path=out/tokens",
                "LLaVA's form: `image` names a file, `conversations` holds questions and answers",
            ),
            (
                "source=image-folder source.path=faces/metadata.jsonl sink.path=s3://bucket/tokens/",
                "a folder of images with a file of captions: `file_name` and `text`",
            ),
        ),
        partial(_batch, "tokenize"),
    ),
    "train": Command(
        "a model fine-tuned on what `uniface tokenize` has made",
        (
            ("data.path=out/tokens sink.path=out/run", "uniface-tiny, on this machine"),
            (
                "data.path=s3://bucket/tokens/ sink.path=s3://bucket/run/ stages=experts-first parallel.workers=8",
                "on eight GPUs of a cluster, its experts first; model.path=s3://... takes a model of your own",
            ),
            ("data.path=out/tokens sink.path=out/lora lora.rank=16", "low-rank adapters only"),
        ),
        _train,
    ),
    "evaluate": Command(
        "how good captions, answers and drawn faces are: numbers with intervals, the best and the worst",
        (
            (
                "evaluate.run=out/captions 'evaluate.labels=[gender,smile]' sink.path=out/evaluation",
                "a finished run, against columns that its source.keep_columns carried along",
            ),
            (
                "source.path=labelled.parquet 'evaluate.labels=[gender,age_group:age]' sink.path=out/evaluation",
                "caption a labelled table first; its column `age` says the age group",
            ),
            (
                "task=vqa source.path=asked.parquet source.question_column=question evaluate.answer_column=answer "
                "sink.path=out/answers",
                "questions and their right answers",
            ),
            (
                "task=generate source.path=prompts.jsonl 'evaluate.judges=[judge/]' evaluate.real=faces/ "
                "sink.path=out/faces",
                "draw prompts, let a classifier say what it sees, and compare with real faces as a set",
            ),
        ),
        _evaluate,
    ),
    "serve": Command(
        "answers and images at once, by the API that OpenAI's clients speak, and a page to try it",
        (
            ("serve.port=8000", "the model that ships with the package, at http://127.0.0.1:8000/"),
            (
                "model.name=faces model.path=s3://bucket/weights/ 'engine.replicas=[1,4]'",
                "your weights, by the name faces; as many replicas as there is work for",
            ),
            ("'serve.models=[tuned=out/tuned/]' engine.batch_size=16", "a second model beside the first"),
        ),
        _serve,
    ),
    "status": Command(
        "how a run is, asked of its sink from any machine: counts, pace, time left, who runs it",
        (
            ("sink.path=s3://bucket/captions/", "exit code 0: done or at work, 3: rows are left and nobody is at work"),
            ("sink.path=out/faces status.format=json", "for programs"),
        ),
        _status,
    ),
    "verify": Command(
        "whether an output is whole: every planned row once, every file as it was written",
        (("sink.path=s3://bucket/captions/", "exit code 0: whole, 3: sound, but rows are pending, 5: problems"),),
        _verify,
    ),
    "replay-rejects": Command(
        "rejected rows once more, after a mend or with other settings: what works now moves to the rows that worked",
        (
            ("sink.path=s3://bucket/captions/", "all of them, with the settings of the run"),
            ("sink.path=out/faces 'replay.kinds=[fetch_failed,timeout]'", "those of some kinds"),
            ("sink.path=out/faces 'replay.kinds=[too_large]' decode.max_pixels=200000000", "with another limit"),
        ),
        _replay_rejects,
    ),
}


def tell(text: str) -> None:
    """Print to stdout."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads it, such as `head`, has seen enough; and nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["COMMANDS", "Command", "tell"]
