"""The scorer: a frozen model, a task and a prompt space behind one method, `answer`. Work in, results out."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zip_ray.clip.engine import TextEncoder, make_encoder
from zip_ray.clip.feature_cache import FeatureCache, default_folder
from zip_ray.clip.features import fresh_features, mini_batch, mini_batch_views, split_features, train_features
from zip_ray.clip.model import FrozenClip, load_clip
from zip_ray.clip.precision import Precision, compare, products
from zip_ray.clip.text import encode_texts, token_embedding, word_embeddings
from zip_ray.clip.weights import share_weights
from zip_ray.config import Config, PromptConfig
from zip_ray.data import ImageSet, Task, load_task
from zip_ray.layout import shard_bounds
from zip_ray.ledger import QUERIES_PER_PAIR
from zip_ray.optimizers import perturbation
from zip_ray.prompts import LowRankSpace
from zip_ray.prompts.low_rank import random_context
from zip_ray.work import (
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    Facts,
    Float32,
    Float64,
    Hosted,
    Int64,
    Pair,
    PairResult,
    Pairs,
    PairsResult,
    Perturbation,
    Result,
    Slice,
    SliceResult,
    Split,
    Work,
)

PUBLISHED_SUFFIX = "."
JUDGED_PAIRS = 16


def build_scorer(config: Config) -> "Scorer":
    """The scorer of a run: what an actor calls once.

    Raises:
        InputError: the model, the task or their combination cannot be used as configured.
    """
    torch.set_num_threads(config.cluster.threads_per_actor)
    torch.backends.cudnn.allow_tf32 = False  # of image features, whatever the text tower runs in
    clip = load_clip(config.model, choose_device(config))
    if config.cluster.cache and config.cluster.pool == "ray" and clip.device.type == "cpu":
        share_weights(clip, default_folder())
    return Scorer(clip, load_task(config.task, config.seed), config)


def choose_device(config: Config) -> str:
    """`auto` is cuda for a scorer that has been given a GPU, or that has the machine for itself."""
    if config.model.device != "auto":
        return config.model.device
    entitled = config.cluster.gpus_per_actor > 0 or config.cluster.pool == "in-process"
    return "cuda" if entitled and torch.cuda.is_available() else "cpu"


class Scorer:
    """Losses of prompts on keyed mini-batches.

    Image features are encoded once a split, when it is first needed; each query encodes its text only.
    """

    def __init__(self, clip: FrozenClip, task: Task, config: Config) -> None:
        """Prepare model, prompts and the training images' features.

        Raises:
            InputError: a prompt is too long, the tower cannot be prompted, an image cannot be read.
        """
        self._clip, self._task, self._config = clip, task, config
        before, after = task.template.split("{}")
        words = before if config.prompt.init == "template" else config.prompt.init
        self._suffix = after if config.prompt.init == "template" else PUBLISHED_SUFFIX
        initial = self._initial_context(config.prompt, words)
        self._space = LowRankSpace(config.prompt, initial, config.seed)
        self._tokens = len(initial)
        self._encoders: dict[tuple[int, int], tuple[TextEncoder, str]] = {}
        """By shard and number of shards: of those classes, and what it is."""
        self._scale = clip.logit_scale
        facts: dict[str, object] = {
            "weights": clip.weights_digest,
            "preprocess": clip.preprocess_config,
            "device": clip.device.type,
        }
        self._cache = FeatureCache(default_folder() if config.cluster.cache else None, facts)
        self._encoder()
        self._train = train_features(clip, task.train, config.task, config.seed, self._cache)
        # Without random crops the training views are the images as at test time.
        self._features: dict[Split, Tensor] = {"train": self._train[0]} if config.task.views == 0 else {}

    def facts(self) -> Facts:
        """What the driver must know; the same on every actor of a run."""
        task, model = self._task, self._config.model
        return Facts(
            initial_context=self._space.initial_context,
            classnames=task.classnames,
            template=task.template,
            templates=task.templates,
            suffix=self._suffix,
            images={"train": len(task.train), "val": len(task.val), "test": len(task.test)},
            model=model.name,
            pretrained=model.pretrained,
            weights_digest=self._clip.weights_digest,
            preprocess=self._clip.preprocess_config,
            logit_scale=self._scale,
            device=str(self._clip.device),
            text_pass=self._encoder()[1],
            precision="" if model.precision == "fp32" else f"{model.precision}: {self._judge_precision()}",
        )

    def answer(self, work: Work) -> Result:
        """Do a piece of work; the same work gives the same bits, wherever and whenever it is done."""
        match work:
            case Pairs():
                return self._score(work.pairs)
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
                context = self._space.context(work.w)
                return EncodingResult(work.id, context, self._encode([work.w])[0].cpu().numpy())
            case Hosted():
                raise TypeError("work of many runs goes to a ScorerHost")

    def _score(self, pairs: tuple[Pair, ...], precision: Precision | None = None) -> PairsResult:
        """All sides of all pairs in one pass through the text tower."""
        shifts = [pair.c * perturbation(pair.perturbation, pair.w.size) for pair in pairs]
        points = [point for pair, z in zip(pairs, shifts, strict=True) for point in (pair.w + z, pair.w - z)]
        texts = self._encode(points, precision).split(QUERIES_PER_PAIR)
        scored = [self._cross_entropy(*self._mini_batch(p), text) for p, text in zip(pairs, texts, strict=True)]
        figures = torch.stack(scored).tolist()  # the one moment a GPU is waited for
        return PairsResult(
            tuple(
                PairResult(pair.id, plus, minus, sum(accuracies) / QUERIES_PER_PAIR)
                for pair, ((plus, minus), accuracies) in zip(pairs, figures, strict=True)
            )
        )

    def _score_slice(self, work: Slice) -> SliceResult:
        """Some sides against some classes, in one pass through the text tower."""
        points = [
            pair.w + sign * pair.c * perturbation(pair.perturbation, pair.w.size)
            for pair in work.pairs
            for sign in work.signs
        ]
        first = shard_bounds(len(self._task.classnames), work.shards)[work.shard]
        texts = self._encode(points, shard=(work.shard, work.shards)).split(len(work.signs))
        figures = torch.cat(
            [
                self._shard_statistics(*self._mini_batch(p), text, first)
                for p, text in zip(work.pairs, texts, strict=True)
            ],
            dim=1,
        )
        maxima, sums, targets, right = figures.cpu().numpy()
        return SliceResult(work.id, maxima, sums, targets, right > 0)

    def _mini_batch(self, pair: Pair) -> tuple[Tensor, Int64]:
        """Features (images, embed) and labels (images,)."""
        task, seed, images = self._config.task, self._config.seed, self._task.train
        chosen = mini_batch(len(images), task.batch_size, seed, pair.batch)
        if pair.features is not None:
            features = torch.from_numpy(pair.features).to(self._clip.device)
        else:
            views = mini_batch_views(len(chosen), len(self._train), seed, pair.batch)
            features = self._train[torch.from_numpy(views), torch.from_numpy(chosen)]
        return features, images.labels[chosen]

    def _evaluate(self, work: Evaluation) -> EvaluationResult:
        images: dict[Split, ImageSet] = {"train": self._task.train, "val": self._task.val, "test": self._task.test}
        labels = images[work.split].labels
        if work.split not in self._features:
            self._features[work.split] = split_features(self._clip, images[work.split], self._cache)
        if isinstance(work.prompt, str):
            texts = [work.prompt.replace("{}", name) for name in self._task.classnames]
            text = encode_texts(self._clip.model, self._clip.tokenizer, texts).unsqueeze(0)
        else:
            text = self._encode([work.prompt])
        (loss,), (accuracy,) = self._cross_entropy(self._features[work.split], labels, text).tolist()
        return EvaluationResult(work.id, loss, accuracy, len(labels))

    def _encode(
        self, points: list[Float64], precision: Precision | None = None, shard: tuple[int, int] = (0, 1)
    ) -> Tensor:
        contexts = np.stack([self._space.context(w) for w in points])
        with products(precision or self._config.model.precision, self._clip.device):
            return self._encoder(shard)[0].encode(torch.from_numpy(contexts)).float()

    def _encoder(self, shard: tuple[int, int] = (0, 1)) -> tuple[TextEncoder, str]:
        """The encoder of a shard's classes, and what it is; made when it is first needed."""
        if shard not in self._encoders:
            index, shards = shard
            names = self._task.classnames
            bounds = [*shard_bounds(len(names), shards), len(names)]
            chosen = names[bounds[index] : bounds[index + 1]]
            self._encoders[shard] = make_encoder(
                self._clip.model, self._clip.tokenizer, chosen, self._tokens, self._suffix
            )
        return self._encoders[shard]

    def _judge_precision(self) -> str:
        """What the configured precision does to the loss differences of the first pairs."""
        optimizer, seed = self._config.optimizer, self._config.seed
        w = self._space.initial()
        pairs = tuple(
            Pair(k, 1, 0, w, optimizer.c, Perturbation(optimizer.perturbation, seed, 1, k), 1, self._judged_features())
            for k in range(JUDGED_PAIRS)
        )

        def differences(precision: Precision) -> list[float]:
            return [result.plus - result.minus for result in self._score(pairs, precision).results]

        return str(compare(differences("fp32"), differences(self._config.model.precision)))

    def _judged_features(self) -> Float32 | None:
        if self._config.task.views != "fresh":
            return None
        return fresh_features(self._clip, self._task.train, self._config.task, self._config.seed, 1).cpu().numpy()

    @torch.inference_mode()
    def _cross_entropy(self, images: Tensor, labels: Int64, text: Tensor) -> Tensor:
        """Losses and accuracies of images (n, embed) against texts (prompts, classes, embed): shape (2, prompts)."""
        logits = self._scale * images @ text.transpose(1, 2)
        target = torch.from_numpy(labels).to(logits.device).expand(len(text), -1)
        # The mean in float64: a loss difference at c ~ 0.01 is a few thousand float32 roundings wide.
        loss = functional.cross_entropy(logits.double().transpose(1, 2), target, reduction="none").mean(dim=1)
        accuracy = (logits.argmax(dim=2) == target).double().mean(dim=1)
        return torch.stack([loss, accuracy])

    @torch.inference_mode()
    def _shard_statistics(self, images: Tensor, labels: Int64, text: Tensor, first: int) -> Tensor:
        """Maxima, sums, targets and hits (see `SliceResult`) of texts (prompts, classes, embed): (4, prompts, images).

        Args:
            images: features, shape (images, embed).
            labels: of the images, shape (images,).
            text: features of this shard's classes.
            first: number of its first class.
        """
        logits = (self._scale * images @ text.transpose(1, 2)).double()
        target = (torch.from_numpy(labels).to(logits.device) - first).expand(len(text), -1)
        here = (target >= 0) & (target < logits.shape[2])
        own = logits.gather(2, target.clamp(0, logits.shape[2] - 1).unsqueeze(2)).squeeze(2)
        maxima, best = logits.max(dim=2)
        sums = (logits - maxima.unsqueeze(2)).exp().sum(dim=2)
        right = here & (best == target)
        return torch.stack([maxima, sums, own.masked_fill(~here, -torch.inf), right.double()])

    def _initial_context(self, prompt: PromptConfig, words: str) -> Float32:
        model = self._clip.model
        if prompt.init == "random":
            return random_context(prompt.tokens, token_embedding(model).embedding_dim, self._config.seed)
        embeddings = word_embeddings(model, self._clip.tokenizer, words)
        return np.asarray(embeddings.cpu().numpy(), dtype=np.float32)
