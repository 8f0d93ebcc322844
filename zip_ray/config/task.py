"""Section `task`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zip_ray.config.merging import Tree
from zip_ray.config.section import Count, Place, Section

DrawLaw = Literal["keyed", "coop"]
ROOTED = ("folder", "manifest", "coop", "torchvision", "webdataset")
"""Kinds of task (the name up to its colon) that need a root; huggingface may have one, built-in tasks have none."""
KINDS = (*ROOTED, "huggingface")
"""Kinds of task that are not built in."""
TESTED = (
    "name",
    "root",
    "classes",
    "template",
    "question",
    "test_set",
    "test_share",
    "class_names",
    "shots",
    "unreadable",
)
"""Fields that say what a tuned prompt is tested on; shots since they may leave fewer images of a class for the test."""
BUILT_IN = {
    "digits": ("inverted", "noisy", "rotated", "moved"),
    "count": ("dark", "noisy", "handwritten"),
    "texture": ("blurred", "faded", "handwritten"),
    "shape": ("sketch", "noisy", "handwritten"),
    "letter": ("plain", "handwritten", "sketch"),
    "colour": ("faded", "noisy", "sketch"),
    "street": ("dark", "noisy", "blurred"),
    "style": ("shapes", "letters", "digits"),
    "crowd": ("blurred", "noisy", "dark"),
    "inlay": ("blurred", "noisy", "inverted"),
    "background": ("dark", "faded", "noisy"),
    "stars": ("blurred", "noisy"),
}
"""The built-in tasks, each with its shifted test sets (docs/measurements/tasks.md)."""


def is_known(name: str) -> bool:
    """Whether a task is built in, or of a kind that zip-ray reads itself."""
    return name in BUILT_IN or name.partition(":")[0] in KINDS


def known_test_sets(name: str) -> tuple[str, ...]:
    """What `test_set` may be: `test`, then the shifted test sets; a task that is not built in has none."""
    return "test", *BUILT_IN.get(name, ())


def of_other_data(own: Tree, target: Tree) -> Tree:
    """Fields of a task, for use with those of another that has a name, so that it takes over nothing of its data.

    Other data have a template, test sets and a place of their own; only where their kind needs a root and they give
    none do they lie where these data lie.
    """
    rooted = str(target["name"]).partition(":")[0] in ROOTED
    left_out = ("template", "question", "test_set", "test_share", "class_names", *(() if rooted else ("root",)))
    return {name: value for name, value in own.items() if name not in left_out}


class TaskConfig(Section):
    """What is classified."""

    name: str = "digits"
    """A built-in task, `folder`, `manifest` or `coop:NAME`, among others. The built-in tasks (digits, count, texture,
    shape, letter, colour, street, style, crowd, inlay, background, stars: docs/measurements/tasks.md) need no data;
    `folder` and `manifest` are for your own images; docs/guides/datasets.md has the rest: `coop:NAME`,
    `torchvision:NAME`, `huggingface:NAME`, `webdataset`."""
    root: Place | None = None
    """Location of the images or data sets. For `folder`: a folder with train/CLASS/ and test/CLASS/, or one folder per
    class, split by the seed (`test_share`). For `manifest`: the .csv or .jsonl file. For the others: the folder of the
    data."""
    classes: Literal["all", "base", "new"] = "all"
    """Half of the classes, or all. base = the first half (rounded up), new = the rest: tune on base, test on both."""
    template: str | None = None
    """A sentence with {} for the class name; or the task's own."""
    question: str | None = None
    """What a generative model is asked; or the task's own. The answers are the class names."""
    test_set: str = "test"
    """`test`, or a shifted test set, such as `inverted`. The built-in tasks have some (docs/measurements/tasks.md)."""
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of each class's images to test on, where a folder has no test/; half if absent. The seed chooses them."""
    class_names: dict[str, str] | None = None
    """Class names by the names of their folders, such as `n02084071_dog: dog`; for `folder`. Folders without one keep
    the name in classnames.txt, or their own."""
    shots: Count = 16
    """Training images per class. Validation gets min(shots, 4) per class."""
    draw: DrawLaw = "keyed"
    """How the images of each class are drawn. keyed = by a key of the seed and the class; coop = the images that CoOp's
    code and ZIP's draw of the same split file: one generator for all classes, in the order of the file."""
    unreadable: Literal["error", "skip"] = "error"
    """What becomes of images that cannot be decoded. error = the run stops and names the first; skip = they are left
    out and counted, and others are drawn in their place. To find them, skip opens every test image once more."""
    batch_size: Count = 128
    """Images per mini-batch. A smaller training set is one batch."""
    views: Annotated[int, Field(ge=0)] | Literal["fresh"] = 0
    """Random crops per image; fresh = new ones at each step. 0 = the image as at test time; a number = that many keyed
    crops of each training image, encoded once; fresh = new crops at each step, as published, each encoded once."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of a random crop, as a share. As in RandomResizedCrop."""
    flip: bool = True
    """Whether a random crop may be mirrored."""

    @model_validator(mode="after")
    def _consistent(self) -> "TaskConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}: give 0 < smallest <= largest <= 1")
        if self.template is not None and self.template.count("{}") != 1:
            raise ValueError(f"template is '{self.template}': it needs {{}} once, where the class name goes")
        if self.question is not None and (not self.question.strip() or "{}" in self.question):
            raise ValueError(f"question is '{self.question}': give a question without {{}}: the answer comes behind it")
        if self.test_set not in (known := known_test_sets(self.name)):
            raise ValueError(f"test_set is '{self.test_set}': '{self.name}' has {', '.join(known)}")
        kind = self.name.partition(":")[0]
        if self.test_share is not None and kind != "folder":
            raise ValueError(
                f"test_share is {self.test_share}, and '{self.name}' has its own test images: leave it out"
            )
        if self.class_names is not None and kind != "folder":
            raise ValueError(f"class_names is for folders, and '{self.name}' has its own names: leave it out")
        if (kind in ROOTED or self.name in BUILT_IN) and (kind in ROOTED) != (self.root is not None):
            raise ValueError(f"root goes with name {', '.join(map(repr, ROOTED))}, which need it: where the images are")
        return self
