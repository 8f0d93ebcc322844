"""The scorer: a frozen model, a task and a prompt space behind one method, `answer`. Work in, results out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.class_texts import WHOLE, Shard, Texts
from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.device import choose_device, describe
from zip_ray.clip.feature_cache import FeatureCache, default_folder
from zip_ray.clip.image_features import (
    fresh_features,
    mini_batch,
    mini_batch_views,
    split_features,
    split_pixels,
    train_features,
)
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.precision import Precision, compare
from zip_ray.clip.prompt_shape import model_shape
from zip_ray.clip.prompted_images import PromptedBatches, prompted_features
from zip_ray.clip.shared_weights import share_weights
from zip_ray.config.model import ModelConfig
from zip_ray.config.threads import threads
from zip_ray.config.tree import Config
from zip_ray.prompts import TextSpace, make_space
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import TEMPLATE_ONCE, Facts, Prompt, Split
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Gradient,
    Pair,
    Pass,
    Perturbation,
    ShardStatistics,
    Slice,
    Value,
    Work,
)
from zip_ray.protocol.perturbations import points
from zip_ray.protocol.shards import shard_bounds
from zip_ray.scorer.logits import judge, logits, shard_statistics
from zip_ray.tasks import ImageSet, Task, load_task

JUDGED_PAIRS = 16


def build_scorer(config: Config) -> "Scorer":
    """The scorer of a run: what an actor calls once.

    Raises:
        InputError: the model, the task or their combination cannot be used as configured.
    """
    return ScorerBuilder()(config)


class ScorerBuilder:
    """Builds scorers one after another; while they ask for the same frozen model, it is loaded once."""

    def __init__(self) -> None:
        self._loaded: tuple[ModelConfig, str, FrozenClip] | None = None

    def __call__(self, config: Config) -> "Scorer":
        """The scorer of a run; raises what `build_scorer` does."""
        torch.set_num_threads(threads(config))
        task = load_task(config.task, config.seed)  # before the model: a wrong path shows before a long download
        return Scorer(self._clip(config), task, config)

    def of_key(self, key: str) -> "Scorer":
        """The scorer of a key (see `config.scorer_key`); raises what `build_scorer` does."""
        return self(Config.model_validate_json(key))

    def _clip(self, config: Config) -> FrozenClip:
        model, device = config.model, choose_device(config)
        if self._loaded is None or self._loaded[:2] != (model, device):
            self._loaded = None  # two large models may not fit
            clip = load_clip(model, device)
            if config.execution.cache and config.cluster.pool == "ray" and clip.device.type == "cpu":
                share_weights(clip, default_folder())
            self._loaded = model, device, clip
        return self._loaded[2]


class Scorer:
    """Losses of prompts on keyed mini-batches.

    Image features are encoded once a split, when it is first needed; each query encodes its text only. Under a visual
    prompt each query encodes the images of its mini-batch, and the task's plain template is encoded once.
    """

    def __init__(self, clip: FrozenClip, task: Task, config: Config) -> None:
        """Prepare model, prompts and the training images' features.

        Raises:
            InputError: a prompt is too long, the tower cannot be prompted, an image cannot be read.
        """
        self._clip, self._task, self._config = clip, task, config
        self._texts = Texts(clip, task, config)
        self._shape = model_shape(clip, self._texts.initial_context, config.prompt)
        self._space = make_space(config.prompt, self._shape, config.seed)
        facts: dict[str, object] = {
            "weights": clip.weights_digest,
            "preprocess": clip.preprocess_config,
            "device": clip.device.type,
        }
        self._cache = FeatureCache(default_folder() if config.execution.cache else None, facts)
        soft = self._space.prompt(self._space.initial()).context is not None
        self._text_pass = self._texts.kind if soft else TEMPLATE_ONCE
        self._labels = to_device(torch.from_numpy(task.train.labels), clip.device)
        """Of the training images."""
        self._features: dict[tuple[Split, tuple[int, int] | None], Tensor] = {}
        """Of what has been evaluated: a split, or a part of it."""
        self._batches: PromptedBatches | None = None
        if config.prompt.visual:
            self._batches = PromptedBatches(clip, task.train, config.task, config.prompt, config.seed)
            return
        self._train = train_features(clip, task.train, config.task, config.seed, self._cache)
        # Without random crops the training views are the images as at test time.
        if config.task.views == 0:
            self._features["train", None] = self._train[0]

    def facts(self) -> Facts:
        """What the driver must know; the same on every actor of a run."""
        task, model = self._task, self._config.model
        judged = self._judge_precision() if model.precision != "fp32" else ""
        return Facts(
            shape=self._shape,
            classnames=task.classnames,
            template=task.template,
            templates=task.templates,
            suffix=self._texts.suffix,
            images={"train": len(task.train), "val": len(task.val), "test": len(task.test)},
            model=model.name,
            pretrained=model.pretrained,
            weights_digest=self._clip.weights_digest,
            preprocess=self._clip.preprocess_config,
            logit_scale=self._clip.logit_scale,
            device=describe(self._clip.device),
            text_pass=self._text_pass,
            precision=judged and f"{model.precision}: {judged}",
        )

    def answer(self, work: Work) -> Value:
        """Do a piece of work; the same work gives the same bits, wherever and whenever it is done."""
        match work.body:
            case Pass(asks) if isinstance(asks[0], Gradient):
                return tuple(self._differentiate(ask) for ask in asks)
            case Pass(asks):
                return self._score(asks)
            case Slice() as part:
                return self._score_slice(part)
            case Crops(batch):
                config = self._config
                features = fresh_features(self._clip, self._task.train, config.task, config.seed, batch)
                return CropsResult(features.cpu().numpy())
            case Evaluation() as evaluation:
                return self._evaluate(evaluation)
            case Encoding(w):
                prompt = self._deployed(w)
                return EncodingResult(prompt, self._texts.encode([prompt])[0].cpu().numpy())
            case FactsRequest():
                return self.facts()

    @torch.inference_mode()
    def _score(self, asks: tuple[Ask, ...], precision: Precision | None = None) -> tuple[AskResult, ...]:
        """All points of all asks in one pass through the text tower."""
        prompts = [self._space.prompt(w) for ask in asks for w in points(ask)]
        each = asks[0].queries
        texts = self._texts.encode(prompts, precision=precision).split(each)
        scored = []
        for place, ask in enumerate(asks):
            images, labels = self._mini_batch(ask, prompts[each * place : each * (place + 1)])
            found = logits(self._clip.logit_scale, images, texts[place])
            scored.append(judge(found, labels, self._config.optimizer.loss))
        figures = torch.stack(scored).tolist()  # the one moment a GPU is waited for
        return tuple([AskResult(tuple(losses), sum(right) / len(right)) for losses, right in figures])

    @torch.inference_mode()
    def _score_slice(self, part: Slice) -> ShardStatistics:
        """Some sides against some classes or some images, in one pass through the text tower."""
        prompts = [self._space.prompt(points(ask)[side]) for ask in part.asks for side in part.sides]
        each = len(part.sides)
        shard, first, images_of = self._shard(part)
        texts = self._texts.encode(prompts, shard).split(each)
        parts = []
        for place, ask in enumerate(part.asks):
            images, labels = self._mini_batch(ask, prompts[each * place : each * (place + 1)], images_of)
            parts.append(shard_statistics(logits(self._clip.logit_scale, images, texts[place]), labels, first))
        maxima, sums, targets, right = torch.cat(parts, dim=1).cpu().numpy()
        return ShardStatistics(maxima, sums, targets, right > 0)

    def _differentiate(self, ask: Ask) -> AskResult:
        """Loss and gradient through the plain text pass; the prompt space carries it on to the parameters."""
        assert isinstance(self._space, TextSpace)
        context = torch.from_numpy(self._space.context(ask.w)).requires_grad_()
        images, labels = self._mini_batch(ask)
        text = self._texts.plain.differentiable(context.unsqueeze(0))
        # Features come from inference mode; autograd keeps only what does not.
        found = logits(self._clip.logit_scale, images.clone(), text)
        loss, accuracy = judge(found, labels, self._config.optimizer.loss)[:, 0]
        (gradient,) = torch.autograd.grad(loss, context)
        pulled = self._space.pullback(ask.w, gradient.double().numpy())
        return AskResult((loss.item(),), accuracy.item(), pulled)

    def _shard(self, part: Slice) -> tuple[Shard, int, slice]:
        """The classes of a slice, the first of them, and the places in the mini-batch of its images."""
        if part.over == "classes":
            first, _ = shard_bounds(len(self._task.classnames), part.shard, part.shards)
            return (part.shard, part.shards), first, slice(None)
        images = min(self._config.task.batch_size, len(self._task.train))
        return WHOLE, 0, slice(*shard_bounds(images, part.shard, part.shards))

    def _mini_batch(self, ask: Ask, prompts: Sequence[Prompt] = (), part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Features (images, embed), of visual prompts (prompts, images, embed), and labels (images,)."""
        task, seed = self._config.task, self._config.seed
        chosen = mini_batch(len(self._labels), task.batch_size, seed, ask.batch)
        places = to_device(torch.from_numpy(chosen), self._clip.device)
        if self._batches is not None:
            visual = [prompt.visual for prompt in prompts if prompt.visual is not None]
            features = torch.stack([self._batches.features(ask.batch, one, part) for one in visual])
        elif ask.features is not None:
            features = to_device(torch.from_numpy(ask.features), self._clip.device)
        elif len(self._train) == 1:
            features = self._train[0, places]
        else:
            views = mini_batch_views(len(chosen), len(self._train), seed, ask.batch)
            features = self._train[to_device(torch.from_numpy(views), self._clip.device), places]
        return features, self._labels[places][part]

    @torch.inference_mode()
    def _evaluate(self, evaluation: Evaluation) -> EvaluationResult:
        splits: dict[Split, ImageSet] = {"train": self._task.train, "val": self._task.val, "test": self._task.test}
        images, visual = splits[evaluation.split], None
        if evaluation.part is not None:
            images = images.subset(np.arange(*evaluation.part))
        if isinstance(evaluation.prompt, str):
            text = self._texts.sentences(evaluation.prompt).unsqueeze(0)
        else:
            given = evaluation.prompt
            prompt = given if isinstance(given, Prompt) else self._deployed(given)
            text, visual = self._texts.encode([prompt]), prompt.visual
        if visual is not None:
            features = prompted_features(self._clip, split_pixels(self._clip, images), visual)
        else:
            key = (evaluation.split, evaluation.part)
            if key not in self._features:
                self._features[key] = split_features(self._clip, images, self._cache)
            features = self._features[key]
        labels = to_device(torch.from_numpy(images.labels), self._clip.device)
        found = logits(self._clip.logit_scale, features, text)
        (loss,), (accuracy,) = judge(found, labels, "cross-entropy").tolist()
        return EvaluationResult(loss, accuracy, len(images))

    def _deployed(self, w: Float64) -> Prompt:
        """The prompt at parameters `w`, as it is used on single images."""
        prompt = self._space.prompt(w)
        if self._batches is None or prompt.visual is None:
            return prompt
        return replace(prompt, visual=self._batches.fix_statistics(prompt.visual))

    def _judge_precision(self) -> str:
        """What the configured precision does to the loss differences of the first pairs."""
        if len(self._task.train) == 0:
            return "not judged, without training images"
        seed, (law, scale) = self._config.seed, self._config.optimizer.probe
        w, features = self._space.initial(), self._judged_features()
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
            return [plus - minus for plus, minus in (result.losses for result in self._score(pairs, precision))]

        return str(compare(differences("fp32"), differences(self._config.model.precision)))

    def _judged_features(self) -> Float32 | None:
        if not self._config.encodes_crops:
            return None
        return fresh_features(self._clip, self._task.train, self._config.task, self._config.seed, 1).cpu().numpy()
