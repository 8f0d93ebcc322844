"""The scorer: a frozen model, a task and a prompt space behind one method, `answer`. Work in, results out."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

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
from zip_ray.optimizers.spsa import PairOptions
from zip_ray.pool.splitting import shard_bounds
from zip_ray.prompts import TextSpace, make_space
from zip_ray.protocol.arrays import Float32, Float64, Int64
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
    Gradient,
    GradientResult,
    Hosted,
    Pair,
    PairResult,
    Pass,
    PassResult,
    Perturbation,
    QueryResult,
    Result,
    Slice,
    SliceResult,
    Work,
)
from zip_ray.protocol.perturbations import points
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

    def answer(self, work: Work) -> Result:
        """Do a piece of work; the same work gives the same bits, wherever and whenever it is done."""
        match work:
            case Pass(asks) if isinstance(asks[0], Gradient):
                return PassResult(tuple(self._differentiate(ask) for ask in asks))
            case Pass():
                return self._score(work.asks)
            case Slice():
                return self._score_slice(work)
            case Crops():
                features = fresh_features(
                    self._clip, self._task.train, self._config.task, self._config.seed, work.batch
                )
                return CropsResult(work.id, work.batch, features.cpu().numpy())
            case Evaluation():
                return self._evaluate(work)
            case Encoding():
                prompt = self._deployed(work.w)
                return EncodingResult(work.id, prompt, self._texts.encode([prompt])[0].cpu().numpy())
            case Hosted():
                raise TypeError("work of many runs goes to a ScorerHost")

    @torch.inference_mode()
    def _score(self, asks: tuple[Ask, ...], precision: Precision | None = None) -> PassResult:
        """All points of all asks in one pass through the text tower."""
        prompts = [[self._space.prompt(w) for w in points(ask)] for ask in asks]
        texts = self._texts.encode(list(chain(*prompts)), precision=precision).split(asks[0].queries)
        scored = []
        for ask, prompted, text in zip(asks, prompts, texts, strict=True):
            images, labels = self._mini_batch(ask, prompted)
            scored.append(judge(self._logits(images, text), labels, self._config.optimizer.loss))
        figures = torch.stack(scored).tolist()  # the one moment a GPU is waited for
        return PassResult(tuple(_result(ask, *one) for ask, one in zip(asks, figures, strict=True)))

    @torch.inference_mode()
    def _score_slice(self, work: Slice) -> SliceResult:
        """Some sides against some classes or some images, in one pass through the text tower."""
        prompts = [[self._space.prompt(points(ask)[side]) for side in work.sides] for ask in work.asks]
        shard, first, images_of = self._shard(work)
        texts = self._texts.encode(list(chain(*prompts)), shard).split(len(work.sides))
        parts = []
        for ask, prompted, text in zip(work.asks, prompts, texts, strict=True):
            images, labels = self._mini_batch(ask, prompted, images_of)
            parts.append(shard_statistics(self._logits(images, text), labels, first))
        maxima, sums, targets, right = torch.cat(parts, dim=1).cpu().numpy()
        return SliceResult(work.id, maxima, sums, targets, right > 0)

    def _differentiate(self, ask: Ask) -> GradientResult:
        """Loss and gradient through the plain text pass; the prompt space carries it on to the parameters."""
        assert isinstance(self._space, TextSpace)
        context = torch.from_numpy(self._space.context(ask.w)).requires_grad_()
        images, labels = self._mini_batch(ask)
        text = self._texts.plain.differentiable(context.unsqueeze(0))
        # Features come from inference mode; autograd keeps only what does not.
        loss, accuracy = judge(self._logits(images.clone(), text), labels, self._config.optimizer.loss)[:, 0]
        (gradient,) = torch.autograd.grad(loss, context)
        pulled = self._space.pullback(ask.w, gradient.double().numpy())
        return GradientResult(ask.id, loss.item(), accuracy.item(), pulled)

    def _shard(self, work: Slice) -> tuple[Shard, int, slice]:
        """The classes of a slice, the first of them, and the places in the mini-batch of its images."""
        if work.over == "classes":
            first, _ = shard_bounds(len(self._task.classnames), work.shard, work.shards)
            return (work.shard, work.shards), first, slice(None)
        images = min(self._config.task.batch_size, len(self._task.train))
        return WHOLE, 0, slice(*shard_bounds(images, work.shard, work.shards))

    def _mini_batch(self, ask: Ask, prompts: Sequence[Prompt] = (), part: slice = slice(None)) -> tuple[Tensor, Int64]:
        """Features (images, embed), of visual prompts (prompts, images, embed), and labels (images,)."""
        task, seed, images = self._config.task, self._config.seed, self._task.train
        chosen = mini_batch(len(images), task.batch_size, seed, ask.batch)
        if self._batches is not None:
            visual = [prompt.visual for prompt in prompts if prompt.visual is not None]
            features = torch.stack([self._batches.features(ask.batch, one, part) for one in visual])
        elif ask.features is not None:
            features = to_device(torch.from_numpy(ask.features), self._clip.device)
        else:
            views = mini_batch_views(len(chosen), len(self._train), seed, ask.batch)
            view, image = (to_device(torch.from_numpy(x), self._clip.device) for x in (views, chosen))
            features = self._train[view, image]
        return features, images.labels[chosen][part]

    def _logits(self, images: Tensor, text: Tensor) -> Tensor:
        return logits(self._clip.logit_scale, images, text)

    @torch.inference_mode()
    def _evaluate(self, work: Evaluation) -> EvaluationResult:
        splits: dict[Split, ImageSet] = {"train": self._task.train, "val": self._task.val, "test": self._task.test}
        images, visual = splits[work.split], None
        if work.part is not None:
            images = images.subset(np.arange(*work.part))
        if isinstance(work.prompt, str):
            text = self._texts.sentences(work.prompt).unsqueeze(0)
        else:
            prompt = work.prompt if isinstance(work.prompt, Prompt) else self._deployed(work.prompt)
            text, visual = self._texts.encode([prompt]), prompt.visual
        if visual is not None:
            features = prompted_features(self._clip, split_pixels(self._clip, images), visual)
        else:
            key = (work.split, work.part)
            if key not in self._features:
                self._features[key] = split_features(self._clip, images, self._cache)
            features = self._features[key]
        (loss,), (accuracy,) = judge(self._logits(features, text), images.labels, "cross-entropy").tolist()
        return EvaluationResult(work.id, loss, accuracy, len(images))

    def _deployed(self, w: Float64) -> Prompt:
        """The prompt at parameters `w`, as it is used on single images."""
        prompt = self._space.prompt(w)
        if self._batches is None or prompt.visual is None:
            return prompt
        return replace(prompt, visual=self._batches.settle(prompt.visual))

    def _judge_precision(self) -> str:
        """What the configured precision does to the loss differences of the first pairs."""
        if len(self._task.train) == 0:
            return "not judged, without training images"
        optimizer, seed = self._config.optimizer, self._config.seed
        judged = optimizer if isinstance(optimizer, PairOptions) else PairOptions()
        scale = judged.perturbation_scale
        w = self._space.initial()
        pairs = tuple(
            Pair(k, 1, 0, w, scale, Perturbation(judged.perturbation, seed, 1, k), 1, self._judged_features())
            for k in range(JUDGED_PAIRS)
        )

        def differences(precision: Precision) -> list[float]:
            results = self._score(pairs, precision).results
            return [result.plus - result.minus for result in results if isinstance(result, PairResult)]

        return str(compare(differences("fp32"), differences(self._config.model.precision)))

    def _judged_features(self) -> Float32 | None:
        if not self._config.encodes_crops:
            return None
        return fresh_features(self._clip, self._task.train, self._config.task, self._config.seed, 1).cpu().numpy()


def _result(ask: Ask, losses: list[float], accuracies: list[float]) -> AskResult:
    """What came of a pair or a query, from the figures of its points."""
    if isinstance(ask, Pair):
        plus, minus = losses
        return PairResult(ask.id, plus, minus, sum(accuracies) / len(accuracies))
    return QueryResult(ask.id, losses[0], accuracies[0])
