"""The scorer: a frozen model, a task and a prompt space behind one method, `answer`. Work in, results out."""

from functools import cached_property

import torch

from zip_ray.clip.class_texts import Texts
from zip_ray.clip.device import choose_device, describe
from zip_ray.clip.feature_cache import FeatureCache, default_folder
from zip_ray.clip.image_features import fresh_features
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.precision import Precision, compare
from zip_ray.clip.prompt_shape import model_shape
from zip_ray.clip.shared_weights import share_weights
from zip_ray.config.model import ModelConfig
from zip_ray.config.threads import threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import TEMPLATE_ONCE, ClipFacts, Facts
from zip_ray.protocol.messages import (
    Crops,
    CropsResult,
    Encoding,
    Evaluation,
    FactsRequest,
    Features,
    FeaturesResult,
    Gradient,
    Pair,
    Pass,
    Perturbation,
    Slice,
    Value,
    Work,
)
from zip_ray.scorer.evaluating import Evaluator
from zip_ray.scorer.image_side import ImageSide
from zip_ray.scorer.passes import Passes
from zip_ray.scorer.starts import Starts
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.identity import identity, shared_images

JUDGED_PAIRS = 16


def build_scorer(config: Config) -> "Scorer":
    """The scorer of a run; called once per actor.

    Raises:
        InputError: the model, the task or their combination cannot be used as configured.
    """
    return ClipScorers()(config)


class ClipScorers:
    """Builds scorers one after another; while they ask for the same frozen model, it is loaded once."""

    def __init__(self) -> None:
        self._loaded: tuple[ModelConfig, str, FrozenClip] | None = None

    def __call__(self, config: Config) -> "Scorer":
        """The scorer of a run; raises what `build_scorer` does."""
        torch.set_num_threads(threads(config))
        task = load_task(config.task, config.seed)  # before the model: a wrong path shows before a long download
        if isinstance(task.test, QuestionImages):
            raise InputError(
                f"task.root: '{config.task.root}' has questions, which CLIP does not read: give a generative model "
                "(model.name)"
            )
        return Scorer(self._clip(config), task, config)

    def _clip(self, config: Config) -> FrozenClip:
        model, device = config.clip, choose_device(config)
        if self._loaded is None or self._loaded[:2] != (model, device):
            self._loaded = None  # two large models may not fit
            clip = load_clip(model, device)
            shared = config.execution.cache and config.cluster.pool == "ray" and clip.device.type == "cpu"
            if shared and (folder := default_folder()):
                share_weights(clip, folder)
            self._loaded = model, device, clip
        return self._loaded[2]


class Scorer:
    """Losses and class scores of prompts on keyed mini-batches.

    Image features are encoded once per split, when it is first needed; each query encodes its text only. Under a visual
    prompt each query encodes the images of its mini-batch, and the task's plain template is encoded once.
    """

    def __init__(self, clip: FrozenClip, task: Task, config: Config) -> None:
        """Prepare model, prompts and the training images' features.

        Raises:
            InputError: a prompt is too long, the tower cannot be prompted, an image cannot be read.
        """
        self._clip, self._task, self._config = clip, task, config
        texts = self._texts = Texts(clip, task, config)
        starts = self._starts = Starts(texts, model_shape(clip, texts.initial_context, config.prompt), config)
        facts: dict[str, object] = {
            "weights": clip.weights_digest,
            "preprocess": clip.preprocess_config,
            "device": clip.device.type,
        }
        cache = FeatureCache(default_folder() if config.execution.cache else None, facts)
        soft = starts.prompt(starts.space().initial()).context is not None
        self._text_pass = texts.kind if soft else TEMPLATE_ONCE
        images = self._images = ImageSide(clip, task, config, cache)
        self._passes = Passes(clip.logit_scale, texts, images, starts, len(task.classnames), config.optimizer.loss)
        self._evaluator = Evaluator(clip.logit_scale, texts, images, starts)

    def facts(self, start: str | None = None) -> Facts:
        """The facts for the driver; the same on every actor of a run.

        Args:
            start: template that the prompt space starts from; None as configured.

        Raises:
            InputError: the start cannot be used.
        """
        task, model = self._task, self._config.clip
        shape, suffix = self._starts.shape(start)
        judged = self._judged_precision if model.precision != "fp32" else ""
        return Facts(
            shape=shape,
            classnames=task.classnames,
            template=task.template,
            templates=task.templates,
            suffix=suffix,
            images={"train": len(task.train), "val": len(task.val), "test": len(task.test)},
            device=describe(self._clip.device),
            labels=task.train.labels,
            val_labels=task.val.labels,
            weights_digest=self._clip.weights_digest,
            clip=ClipFacts(
                model=model.name,
                pretrained=model.pretrained,
                preprocess=self._clip.preprocess_config,
                logit_scale=self._clip.logit_scale,
                text_pass=self._text_pass,
                precision=judged and f"{model.precision}: {judged}",
            ),
            images_digest=self._images_digest,
            notes=self._notes,
        )

    def answer(self, work: Work) -> Value:
        """Do a piece of work; the same work gives the same bits, wherever and whenever it is done."""
        match work.body:
            case Pass(asks) if isinstance(asks[0], Gradient):
                return tuple(self._passes.differentiate(ask) for ask in asks)
            case Pass(asks):
                return self._passes.score(asks)
            case Slice() as part:
                return self._passes.score_slice(part)
            case Crops(batch):
                config = self._config
                features = fresh_features(self._clip, self._task.train, config.task, config.seed, batch)
                return CropsResult(features.cpu().numpy())
            case Evaluation() as evaluation:
                return self._evaluator.evaluate(evaluation)
            case Encoding() as encoding:
                return self._evaluator.encode(encoding)
            case Features(split, part):
                features, labels = self._images.tested(split, part)
                return FeaturesResult(features.float().cpu().numpy(), labels.cpu().numpy())
            case FactsRequest(start):
                return self.facts(start)

    @cached_property
    def _images_digest(self) -> str:
        return identity(self._task)

    @cached_property
    def _notes(self) -> tuple[str, ...]:
        return (*self._task.notes, *shared_images(self._task))

    @cached_property
    def _judged_precision(self) -> str:
        """The effect of the configured precision on the loss differences of the first pairs."""
        if len(self._task.train) == 0:
            return "not measured, without training images"
        seed, (law, scale) = self._config.seed, self._config.optimizer.probe
        w, features = self._starts.space().initial(), self._judged_features()
        pairs = tuple(
            Pair(
                index=k,
                step=1,
                version=0,
                w=w,
                batch=1,
                scale=scale,
                perturbation=Perturbation(law, seed, 1, k),
                features=features,
            )
            for k in range(JUDGED_PAIRS)
        )

        def differences(precision: Precision) -> list[float]:
            return [plus - minus for plus, minus in (result.losses for result in self._passes.score(pairs, precision))]

        return str(compare(differences("fp32"), differences(self._config.clip.precision)))

    def _judged_features(self) -> Float32 | None:
        if not self._config.encodes_crops:
            return None
        return fresh_features(self._clip, self._task.train, self._config.task, self._config.seed, 1).cpu().numpy()
