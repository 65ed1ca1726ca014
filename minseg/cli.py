"""The minseg command: what a user types, and the sentence they read when something does not fit."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from minseg import __version__

DESCRIPTION = "Semantic segmentation from scratch: every line between a pixel and its label."


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 1 a user's mistake, 130 stopped by Ctrl-C."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 0
    try:
        return chosen.run(chosen) or 0
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read our output stopped reading: head, a pager
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename and error.strerror else ""
        print(f"minseg: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, FloatingPointError) as error:
        print(f"minseg: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command, one subcommand a job."""
    parser = argparse.ArgumentParser("minseg", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"minseg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = _command(
        commands, "demo", _demo,
        "the main job in three minutes: an FCN and a U-Net learn before your eyes",
        "Rebuilds the lecture's worked 4x4 example, trains an FCN on toy shapes and a U-Net on "
        "scenes of real handwritten digits, prints scores, writes pictures and weights. Stop it "
        "with Ctrl-C and it goes on where it stopped.",
    )  # fmt: skip
    demo.add_argument("--out", type=Path, metavar="FOLDER",
                      help="for pictures and weights (default: minseg-demo)")  # fmt: skip
    demo.add_argument("--short", action="store_true",
                      help="a tenth of the steps: to see it work, too few to learn well")  # fmt: skip
    demo.add_argument("--mine", action="store_true",
                      help="run a trained U-Net on the exercises you passed")  # fmt: skip
    demo.add_argument("--train", action="store_true",
                      help="with --mine: train on them too, with your loss and your gradients")  # fmt: skip
    _machine(demo)

    train = _command(
        commands, "train", _train,
        "train a network on toy data or on a folder of your own images",
        "Trains a network and writes checkpoint.npz (every 50 steps), predictions.png, curves.png, "
        "confusion.png and scores.txt into --out. Ctrl-C stops after the step at hand and keeps "
        "everything; the same command with --resume goes on.",
    )  # fmt: skip
    add = train.add_argument
    add("--model", metavar="NAME", help="unet, fcn or segnet (default: unet)")
    add(
        "--data",
        metavar="NAME",
        help="digits, digits-hard, shapes, or a folder with images/ and masks/ (default: digits)",
    )
    add("--steps", type=int, metavar="N", help="steps in all (default: 2000)")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the run is kept")
    add("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    add("--width", type=int, metavar="N", help="channels at full size (default: 16)")
    add(
        "--depth",
        type=int,
        metavar="N",
        help="resolutions (unet) or poolings (fcn, segnet) (default: 3)",
    )
    add("--skips", type=int, metavar="N", help="fcn only: finer maps to add, 0 to 2 (default: 2)")
    add(
        "--dilated",
        action="store_true",
        default=None,
        help="fcn only: dilate instead of the last pooling",
    )
    add("--padding", choices=("same", "valid"), help="unet only (default: same)")
    add("--size", type=int, metavar="PIXELS", help="side of the images; crops your own to it")
    add("--batch-size", type=int, metavar="N", help="images in a step (default: 8)")
    add("--lr", type=float, metavar="RATE", help="learning rate (default: 0.003)")
    add("--optimizer", choices=("adam", "sgd"), help="(default: adam)")
    add(
        "--schedule",
        choices=("cosine", "step", "constant"),
        help="how the learning rate falls (default: cosine)",
    )
    add("--seed", type=int, metavar="N", help="of weights and batches (default: 0)")
    _machine(train)

    predict = _command(
        commands, "predict", _predict,
        "label pictures of your own with a trained network",
        "Writes for every picture its labels (NAME.labels.png, one class number per pixel) and a "
        "figure to look at (NAME.seen.png).",
    )  # fmt: skip
    predict.add_argument("checkpoint", type=Path, help="a checkpoint.npz, or the folder of a run")
    predict.add_argument("images", type=Path, nargs="+", help="PNG or JPEG pictures")
    predict.add_argument("--out", type=Path, default=Path(), metavar="FOLDER",
                         help="where the results go (default: here)")  # fmt: skip
    _machine(predict)

    prove = _command(
        commands, "prove", _prove,
        "the lectures' claims, settled by the code itself; or a claim of your own",
        "Without a name: the eight claims that matter most, with their verdicts. A claim's name shows "
        "one at length. A file of your own defines left(x, k), right(x, k) and "
        "shapes = dict(x=(4, 4), k=(3, 3)).",
    )  # fmt: skip
    prove.add_argument("claim", nargs="?", metavar="NAME|FILE.py", help="a claim, or your own file")
    prove.add_argument("--all", action="store_true", help="all claims")

    bench = _command(
        commands, "bench", _bench, "how fast are the ops here, beside PyTorch where it is installed",
        "Times the ops, forward and backward, and one training step of the U-Net, op by op, against "
        "what this machine can do at most; beside PyTorch, in turns, where it is installed.",
    )  # fmt: skip
    bench.add_argument("--json", type=Path, metavar="FILE", help="write every figure to a file")
    bench.add_argument("--picture", type=Path, metavar="FILE", help="draw the roofline: bench.png")
    bench.add_argument("--quick", action="store_true", help="fewer rounds: half a minute")
    bench.add_argument("--threads", type=int, metavar="N",
                       help="processor threads (default: every core)")  # fmt: skip

    lectures = _command(
        commands, "lectures", _lectures,
        "copy the lecture notebooks to a place of your own and open them in JupyterLab",
        "Copies the notebooks into minseg_work/lectures/ (never over one you changed) and opens "
        "JupyterLab there.",
    )  # fmt: skip
    lectures.add_argument("--no-errata", action="store_true",
                          help="leave out the boxes where a deck's text and the code disagree")  # fmt: skip
    lectures.add_argument("--no-open", action="store_true", help="copy only")

    _exercise_commands(commands)

    notebooks = _command(
        commands, "notebooks", _notebooks,
        "for authors: make the notebooks anew from their scripts",
        "Runs lectures/NN_name.py cell by cell and writes lectures/NN_name.ipynb with all outputs.",
    )  # fmt: skip
    notebooks.add_argument("names", nargs="*", metavar="NN", help="some of them only, such as 02b")
    return parser


def _exercise_commands(commands) -> None:
    from minseg.grading.command import add_arguments

    exercises = _command(
        commands, "exercises", _exercises,
        "the graded exercises: copy the stubs to a place of your own, and list them",
        "Copies the exercises' stubs into minseg_work/exercises/ (never over your work) and lists "
        "them, what you passed lit up in a drawn U-Net.",
    )  # fmt: skip
    exercises.add_argument("--verify", nargs="*", metavar="NAME",
                           help="for authors: does each exercise do what it promises?")  # fmt: skip
    check = _command(
        commands, "check", _check,
        "check your answer to an exercise, and hear what a wrong one is",
        "Runs the checks of an exercise on minseg_work/exercises/NAME.py. Without a name: the next "
        "exercise that is not passed.",
    )  # fmt: skip
    check.add_argument("--watch", action="store_true", help="check again at every save")
    hint = _command(
        commands, "hint", _hint, "a hint: a question first, then a pointer, then nearly the code",
        "Shows one hint more each time.",
    )  # fmt: skip
    solution = _command(
        commands, "solution", _solution, "the solution and the library's version, beside yours",
        "Shown once the exercise is passed.",
    )  # fmt: skip
    solution.add_argument("--give-up", action="store_true", help="show it before that")
    reset = _command(
        commands, "reset", _reset, "start an exercise again from its stub",
        "What you had is kept beside it.",
    )  # fmt: skip
    reset.add_argument("exercise", metavar="EXERCISE", help="its name or number")
    grade = _command(
        commands, "grade", _grade, "for teachers: grade a class",
        "Grades a folder of submissions: a table, a record, and a page of feedback per student. "
        "Students' code is locked in; TEACHING.md says what a score shows.",
    )  # fmt: skip
    add_arguments(grade)
    for command in (check, hint, solution):
        command.add_argument("exercise", nargs="?", metavar="EXERCISE",
                             help="its name or number (default: the next unsolved)")  # fmt: skip


def _command(commands, name, run, summary, description) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=description)
    command.set_defaults(run=run)
    return command


def _machine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)"
    )
    command.add_argument("--threads", type=int, metavar="N",
                         help="processor threads (default: every core)")  # fmt: skip


def _prepare(chosen: argparse.Namespace) -> None:
    from minseg import set_num_threads
    from minseg.backend import check_device

    check_device(chosen.device)
    if chosen.threads is not None:
        set_num_threads(chosen.threads)


def _demo(chosen: argparse.Namespace) -> int:
    from minseg.demo import demo
    from minseg.train import TrainingStopped

    _prepare(chosen)
    if chosen.train and not chosen.mine:
        raise ValueError("demo: --train goes with --mine; to train otherwise, see `minseg train`")
    if chosen.mine:
        from minseg.grading.course import course
        from minseg.grading.mine import OUT, demo_mine
        from minseg.grading.work import Work

        demo_mine(Work(course()), chosen.out or OUT, chosen.train)
        return 0
    try:
        out = chosen.out or Path("minseg-demo-short" if chosen.short else "minseg-demo")
        demo(out, chosen.device, chosen.short)
    except TrainingStopped as stop:
        print(f"\n{stop}\nThe same command goes on from there.")
        return 130
    return 0


# What a training is made of; a resumed run keeps its own.
SETTINGS = dict(
    model="unet", data="digits", steps=2000, width=16, depth=3, skips=None, dilated=None, padding=None,
    size=None, batch_size=8, lr=3e-3, optimizer="adam", schedule="cosine", seed=0,
)  # fmt: skip


def _settings(chosen: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """The settings of a run: what was typed and otherwise the defaults, or those of the saved run."""
    from minseg.segmenter import load

    typed = {name: value for name in SETTINGS if (value := getattr(chosen, name)) is not None}
    if not chosen.resume:
        return SETTINGS | typed
    saved = load(checkpoint)[1]["settings"]
    for name, value in typed.items():
        if name != "steps" and value != saved.get(name):
            raise ValueError(
                f"--{name.replace('_', '-')} {value} does not fit: the run in {chosen.out} has "
                f"{saved.get(name)}, and a resumed run keeps its settings (--steps may grow)"
            )
    return SETTINGS | saved | typed


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """The network's own options, checked to go with it."""
    model, skips, dilated, padding = (settings[n] for n in ("model", "skips", "dilated", "padding"))
    if model != "fcn" and (skips is not None or dilated):
        raise ValueError("--skips and --dilated go with --model fcn only")
    if model != "unet" and padding is not None:
        raise ValueError("--padding goes with --model unet only")
    if model == "fcn":
        return dict(skips=2 if skips is None else skips, dilated=bool(dilated))
    return {} if padding is None else dict(padding=padding)


def _train(chosen: argparse.Namespace) -> int:
    from minseg import data, models
    from minseg.arguments import one_of
    from minseg.demo import report
    from minseg.train import TrainingStopped, train

    _prepare(chosen)
    checkpoint = chosen.out / "checkpoint.npz"
    if chosen.out.exists() and not chosen.out.is_dir():
        raise ValueError(f"--out {chosen.out} is a file; name a folder")
    if checkpoint.exists() and not chosen.resume:
        raise ValueError(
            f"{chosen.out} holds a run already: add --resume to go on with it, or name another --out"
        )
    settings = _settings(chosen, checkpoint)
    one_of("train", "--model", settings["model"], tuple(models.MODELS))
    options = _options(settings)
    train_set = data.build(settings["data"], "train", settings["size"])
    test_set = data.build(settings["data"], "test", settings["size"])
    print(
        f"{settings['model']} on {train_set.name}: {len(train_set):,} training and {len(test_set):,} "
        f"test images, {train_set.num_classes} classes"
    )
    if unused := getattr(train_set, "unused", []):
        print(f"  left out, for want of a mask masks/NAME.png: {', '.join(unused[:5])}"
              + (f" and {len(unused) - 5} more" if len(unused) > 5 else ""))  # fmt: skip
    if getattr(test_set, "crop", None):
        print(
            f"  scores count the middle {settings['size']} x {settings['size']} pixels of test images"
        )
    own = {name: settings[name] for name in ("model", "width", "depth", "steps", "batch_size", "lr",
                                             "optimizer", "schedule", "seed")}  # fmt: skip
    try:
        segmenter, history = train(
            train_set, test_set, chosen.out, **own, options=options, device=chosen.device,
            resume=chosen.resume, settings=settings,
        )  # fmt: skip
    except TrainingStopped as stop:
        print(f"\n{stop}\nGo on with the same command and --resume.")
        return 130
    report(segmenter, history, test_set, chosen.out)
    print(f"\nPictures and weights are in {chosen.out}.")
    return 0


def _predict(chosen: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from minseg import plot
    from minseg.data.folder import read_image
    from minseg.files import written_whole
    from minseg.segmenter import load

    _prepare(chosen)
    path = chosen.checkpoint
    segmenter = load(path / "checkpoint.npz" if path.is_dir() else path)[0]
    segmenter.to(chosen.device)
    channels, K = len(segmenter.mean), len(segmenter.class_names)
    names = [image.name for image in chosen.images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"two pictures are named {twice[0]}: their results would overwrite each other"
        )
    for image_path in chosen.images:  # every one is looked at before the first is labelled
        if not image_path.is_file():
            raise ValueError(f"there is no picture {image_path}")
    for image_path in chosen.images:
        image = read_image(image_path, channels)
        labels = segmenter.predict(image[None])[0]
        shares = np.bincount(labels.ravel(), minlength=K) / labels.size
        largest = sorted(range(K), key=lambda k: -shares[k])[:4]
        words = ", ".join(
            f"{segmenter.class_names[k]} {shares[k]:.1%}" for k in largest if shares[k]
        )
        numbers, seen = (
            chosen.out / f"{image_path.name}.{what}.png" for what in ("labels", "seen")
        )
        picture = Image.fromarray(labels.astype(np.uint8), mode="P")
        picture.putpalette(plot.class_colors(K).tobytes())
        with written_whole(numbers) as part:
            picture.save(part, format="PNG")
        plot.labelled(image, labels, segmenter.class_names, seen)
        print(f"{image_path}: {words}\n  {numbers}, {seen}")
    return 0


def _prove(chosen: argparse.Namespace) -> int:
    from minseg import claims

    if chosen.claim is None:
        print(claims.overview(chosen.all))
    elif chosen.claim.endswith(".py"):
        print(claims.from_file(chosen.claim))
    else:
        print(claims.at_length(chosen.claim))
    return 0


def _bench(chosen: argparse.Namespace) -> int:
    from minseg import bench, set_num_threads

    if chosen.threads is not None:
        set_num_threads(chosen.threads)
    return bench.main(chosen.json, chosen.picture, chosen.quick)


def _lectures(chosen: argparse.Namespace) -> int:
    from minseg import lectures

    written = lectures.copy(lectures.lectures_folder(), errata=not chosen.no_errata)
    for path in written:
        print(f"  {path}")
    print(f"{len(written)} notebooks copied; those you changed were left alone.")
    return 0 if chosen.no_open else lectures.open_jupyter(lectures.WORK)


def _notebooks(chosen: argparse.Namespace) -> int:
    import time

    from minseg import lectures

    begun = time.perf_counter()
    for path in lectures.make(lectures.lectures_folder(), chosen.names):
        seconds, begun = time.perf_counter() - begun, time.perf_counter()
        print(f"  {path.name}  {seconds:.0f} s  {path.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


def _exercises(chosen: argparse.Namespace) -> int:
    from minseg.grading.course import COMMAND, course
    from minseg.grading.work import Work

    if chosen.verify is not None:
        from minseg.grading.verify import verify_all

        return verify_all(course(), chosen.verify)
    work = Work(course())
    new = work.copy_stubs()
    print(work.listing())
    print(f"\nYour files are in {work.folder}" + (f" ({len(new)} new)." if new else "."))
    if follows := work.next_unsolved():
        print(f"Next: write {work.file(follows).name}, then: {COMMAND} check {follows}")
    return 0


def _grade(chosen: argparse.Namespace) -> int:
    from minseg.grading.command import run_grade

    return run_grade(chosen)


def _check(chosen: argparse.Namespace) -> int:
    from minseg.grading.desk import Desk

    desk = Desk()
    desk.work.must_exist()
    if chosen.watch:
        desk.watch(chosen.exercise, lambda words: print(words, flush=True))
        return 0
    desk.work.copy_stubs()
    said = desk.check(chosen.exercise)
    print(said.text)
    return 0 if said.summary["passed"] else 1


def _hint(chosen: argparse.Namespace) -> int:
    from minseg.grading.desk import Desk

    print(Desk().hint(chosen.exercise))
    return 0


def _solution(chosen: argparse.Namespace) -> int:
    from minseg.grading.desk import Desk

    print(Desk().solution(chosen.exercise, chosen.give_up))
    return 0


def _reset(chosen: argparse.Namespace) -> int:
    from minseg.grading.desk import Desk

    print(Desk().reset(chosen.exercise))
    return 0
