"""What a run folder can hold: every file, what is in it, and the command that writes it. Nothing else is read."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from curvae.data.schema import WrittenSpec
from curvae.io.typed import Count, Plain, Range
from curvae.training.run import files
from curvae.typing import Support

Size = Annotated[int, Range(0, 2**40)]


class Recorded(TypedDict):
    """A system: its name and arguments, or the class and size of one that a file cannot describe."""

    name: NotRequired[str]
    arguments: NotRequired[dict[str, Plain]]
    custom: NotRequired[str]
    parameters: NotRequired[Count]


class WarmStart(TypedDict):
    """The run at whose weights training began."""

    run: str
    """Its folder, as it was named."""
    weights: str
    """SHA-256 of them."""


class WrittenConfig(TypedDict):
    """All that a run needs to be made again."""

    format: int
    curvae: str | None
    system: Recorded
    data: dict[str, Plain]
    training: dict[str, Plain]
    cycles: NotRequired[list[dict[str, Plain]]]
    """Training arguments of the cycles before, where training was continued."""
    warm_start: NotRequired[WarmStart]
    refit: NotRequired[WarmStart]
    """The run whose recipe this is, on all rows."""
    adopted: NotRequired[dict[str, Plain]]
    """What was trained elsewhere, and what of it was compared."""
    callbacks: NotRequired[list[str]]
    """Classes of the callbacks that ever looked on; what they do cannot be made again from here."""
    replayable: NotRequired[bool]


class Environment(TypedDict):
    """Versions and machine; more may be in it."""

    data_checksum: str
    device: NotRequired[str]
    seed: NotRequired[Count]


class WrittenStatus(TypedDict):
    """Where training stands."""

    state: Literal["running", "finished", "stopped"]
    stage: Count
    epoch: Count
    step: Count
    reason: str | None
    best: NotRequired[float]
    """The best monitored bound of this stage."""
    tracked: NotRequired[dict[str, str]]
    """Logger -> the identifier under which its service knows the run."""


class Start(TypedDict):
    """One of several fits of a recipe."""

    seed: Count
    bound: float | None
    """The best of its last stage, on the validation data; None of a start that diverged."""


class Restarts(TypedDict):
    """Several fits of a recipe, and the seed of the one that was kept."""

    format: int
    kept: Count
    starts: list[Start]


class WrittenTensor(TypedDict):
    """What a tensor is, its values apart."""

    dtype: str
    shape: tuple[Size, ...]


class WrittenWeights(TypedDict):
    """A ``model.safetensors``: its digest, and every tensor in it."""

    sha256: str
    tensors: dict[str, WrittenTensor]


class WrittenModel(TypedDict):
    """What the weights are of, and which files belong to them."""

    format: int
    system: Recorded
    spec: WrittenSpec
    weights: NotRequired[list[WrittenWeights]]
    """The file that is there, and while it is replaced the one that comes: a run killed in between has either."""
    files: NotRequired[dict[str, str]]
    """SHA-256 of those written once, by name."""


class WrittenTransform(TypedDict):
    """A data transform but for its tensors."""

    format: int
    transform: dict[str, Plain]


class WrittenSchema(TypedDict):
    """What is known of the data; :class:`curvae.data.Schema` looks at the rest."""

    format: int


class WrittenAxes(TypedDict):
    """A :class:`curvae.latents.Axes`."""

    rotation: tuple[tuple[float, ...], ...]
    gains: tuple[float, ...]
    rows: Count
    loadings: tuple[tuple[float, ...], ...]
    deviations: tuple[float, ...]
    explained: tuple[tuple[float, ...], ...]


class Latents(TypedDict):
    """How latents are reported: in other axes than they were trained in, or why not."""

    format: int
    weights: NotRequired[str | None]
    """SHA-256 of those that it is of."""
    axes: NotRequired[WrittenAxes]
    reason: NotRequired[str]


class MeasuredData(TypedDict):
    """Which data something was measured on."""

    name: str
    checksum: str
    support: Support
    transform: NotRequired[str]


class Findings(TypedDict):
    """What was found of a run, beside the numbers: of which weights and data, and what belongs together."""

    format: int
    data: NotRequired[MeasuredData]
    id: NotRequired[str]
    """The same in all files of one evaluation."""
    weights: NotRequired[str]
    """SHA-256 of the weights that were measured."""
    files: NotRequired[dict[str, str]]
    """SHA-256 of the arrays beside it, by name."""


class File(NamedTuple):
    """A file of a run folder."""

    by: str
    """The command that writes it."""
    content: Any = None
    """The type of what a JSON or YAML file says."""
    sealed: bool = False
    """Whether it also says the digest of itself, from format 2 on."""


CONFIG, ENVIRONMENT, STATUS, METRICS = "config.yaml", "environment.json", "status.json", "metrics.csv"
MODEL, WEIGHTS, RESUME = "model.json", "model.safetensors", "resume.pt"
TRANSFORM, TRANSFORM_TENSORS, SCHEMA = "transform.json", "transform.safetensors", "schema.json"
LATENTS, RESTARTS = "latents.json", "restarts.json"
EVALUATION, ARRAYS, PICTURES = "evaluation.json", "evaluation.npz", "pictures.npz"
GAPS, CALIBRATION, OOD, REPORT = "gaps.json", "calibration.json", "ood.json", "report.html"
SNAPSHOTS = "snapshots"
"""Folder of the weights of every epoch, ``000001.safetensors`` and so on, where a stage keeps them."""
EVALUATIONS = "evaluations"
"""Folder of evaluations of other data and other splits, each in a folder of its own with the three files of one."""

BESIDE = {"ood": " DATA"}
"""Words that a command takes beside the run."""
MEND = "is this the whole folder of a run? Copy it anew, or train again"
"""What training wrote cannot be written again."""

LAYOUT = {
    CONFIG: File("fit", WrittenConfig),
    ENVIRONMENT: File("fit", Environment),
    STATUS: File("fit", WrittenStatus),
    METRICS: File("fit"),
    MODEL: File("fit", WrittenModel, sealed=True),
    WEIGHTS: File("fit"),
    TRANSFORM: File("fit", WrittenTransform, sealed=True),
    TRANSFORM_TENSORS: File("fit"),
    SCHEMA: File("fit", WrittenSchema, sealed=True),
    LATENTS: File("fit", Latents, sealed=True),
    RESTARTS: File("fit", Restarts, sealed=True),
    RESUME: File("fit"),
    EVALUATION: File("evaluate", Findings, sealed=True),
    ARRAYS: File("evaluate"),
    PICTURES: File("evaluate"),
    GAPS: File("gaps", Findings, sealed=True),
    CALIBRATION: File("calibrate", Findings, sealed=True),
    OOD: File("ood", Findings, sealed=True),
    REPORT: File("report"),
}
"""By name."""


def read_document(folder: Path, name: str) -> Any:
    """What a JSON or YAML file of a run says, checked against its type.

    Raises:
        RunError: it is not there, is damaged, or of a format that this version does not know.
    """
    file, path, mend = LAYOUT[name], folder / name, how_to_mend(folder, name)
    value = (files.read_yaml if name == CONFIG else files.read_json)(path, mend)
    if "format" in file.content.__annotations__:
        files.check_format(path, value)
    if file.sealed:
        files.check_seal(path, value, mend)
    return files.conform_to(path, value, file.content, mend)


def how_to_mend(folder: Path, name: str) -> str:
    """What to do where a file is missing or damaged."""
    by = LAYOUT[name].by
    return MEND if by == "fit" else f"run `curvae {by} {folder}{BESIDE.get(by, '')}` again"
