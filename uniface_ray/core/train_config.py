"""The schema of `uniface train`: a group of settings for each component of the training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from uniface_ray.core.config import (
    ClusterConfig,
    ModelConfig,
    ReportConfig,
    SinkConfig,
    StorageConfig,
)
from uniface_ray.core.engine_config import in_order, replica_range
from uniface_ray.core.settings import Settings
from uniface_ray.core.stages_config import StagesConfig
from uniface_ray.core.task_config import Schedule


class TrainDataConfig(Settings):
    """What to train on.

    Attributes:
        path: sink of `uniface tokenize`, or a folder of parquet files with its columns.
        batch_size: rows of one step, over all workers.
        held_out: share of the images that is never trained on; which ones, a hash decides.
        held_out_by: column whose equal values are held out together, such as that of a person; null takes the address
            of the image, or the row where many images share one (in a table or an archive).
        shuffle_files: files whose rows are shuffled together; so many are in the memory of every worker.
        drop_prompts: share of the prompts to draw that is left out, for guidance; Show-o's 10 %, not stated by the
            paper.
        text_tokens: a question with its answer is cut here.
    """

    path: str = Field(min_length=1)
    batch_size: int = Field(default=32, ge=1)
    held_out: float = Field(default=0.02, ge=0, lt=1)
    held_out_by: str | None = None
    shuffle_files: int = Field(default=8, ge=1)
    drop_prompts: float = Field(default=0.1, ge=0, le=1)
    text_tokens: int = Field(default=256, ge=8)


class LossConfig(Settings):
    """What is minimised: text + drawing_weight x drawing + balance_weight x balance.

    The paper weighs text and drawing alike; see `model.d3diff` for what it leaves open of the drawing loss.

    Attributes:
        kind: of the drawing loss: `d3diff` is mask + alpha x score; or one of the two alone.
        alpha: weight of the score loss.
        scale: `paper` or `radd`, what the score is made of.
        vocabulary: `codebook` or `full`, what probabilities are normalised over.
        schedule: of masking.
        text_weight: of the next-token loss.
        drawing_weight: of the drawing loss.
        balance_weight: of the balance of token-level experts; null is the model's own.
    """

    kind: Literal["d3diff", "mask", "score"] = "d3diff"
    alpha: float = Field(default=0.01, ge=0)
    scale: Literal["paper", "radd"] = "paper"
    vocabulary: Literal["codebook", "full"] = "codebook"
    schedule: Schedule = "cosine"
    text_weight: float = Field(default=1.0, ge=0)
    drawing_weight: float = Field(default=1.0, ge=0)
    balance_weight: float | None = Field(default=None, ge=0)


class OptimizerConfig(Settings):
    """AdamW; norms, embeddings and biases do not decay.

    Attributes:
        beta1: decay of the mean of gradients.
        beta2: of their squares.
        eps: added to the root of these.
        weight_decay: of all other weights.
        clip_norm: gradients are scaled down to this norm; null does not clip.
        decay: of the rate after the warm-up: `cosine`, `linear` or `constant`.
        floor: share of the highest rate at the end of a stage.
        ema: decay of an average of the weights, which is what is validated and exported; 0 keeps none.
    """

    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    floor: float = Field(default=0.1, ge=0, le=1)
    ema: float = Field(default=0.0, ge=0, lt=1)


class LoraConfig(Settings):
    """Low-rank adapters (the extra `peft`): they learn, the model's own weights stay; merged in what is exported.

    Attributes:
        rank: of the adapters; 0 has none.
        alpha: their scale, divided by the rank.
        dropout: of their input.
        targets: names of the layers that get one; those of the image encoders never do.
        experts: also the routed experts.
    """

    rank: int = Field(default=0, ge=0)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "dense")
    experts: bool = False


class ParallelConfig(Settings):
    """Who computes.

    Attributes:
        workers: of Ray Train, or [min, max] for as many as the cluster has; 0 trains in this process, without Ray.
        kind: `ddp` has the whole model on every worker, `fsdp` a part of it (FSDP2).
        accumulation: parts of a worker's share of a batch, one after another: less memory, the same step.
        device: `auto` takes GPUs where there are some.
        dtype: of the computation; `auto` is float32 on a CPU and bfloat16 on a GPU. Weights are float32.
        gradient_checkpointing: compute each layer twice rather than keep what lies inside.
        num_cpus: of one worker.
        num_gpus: of one worker; null is 1 on a GPU.
        threads: torch threads of one worker; null shares the machine's cores among the workers.
        max_failures: how often a run starts again from its last checkpoint after a worker has died.
    """

    workers: Annotated[tuple[int, int], BeforeValidator(replica_range), AfterValidator(in_order(0))] = (1, 1)
    kind: Literal["ddp", "fsdp"] = "ddp"
    accumulation: int = Field(default=1, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda)$")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    num_cpus: float = Field(default=1.0, gt=0)
    num_gpus: float | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1)
    max_failures: int = Field(default=3, ge=0)


class CheckpointConfig(Settings):
    """Checkpoints: all that a run needs to go on as if nothing had been.

    Attributes:
        every_steps: between two; a lost worker costs at most so many.
        keep: newest ones.
        best: also that of the lowest held-out loss.
        export: which one `model/` is made of, `last` or `best`.
    """

    every_steps: int = Field(default=100, ge=1)
    keep: int = Field(default=2, ge=1)
    best: bool = True
    export: Literal["last", "best"] = "last"


class ValidationConfig(Settings):
    """A look at held-out rows during the training.

    Attributes:
        every_steps: between two looks.
        rows: of each kind that is trained, whose losses are measured.
        steps: of drawing the samples.
        guidance: of drawing the samples.
        max_new_tokens: of captions of the samples, or of answers about them.
    """

    every_steps: int = Field(default=100, ge=1)
    rows: int = Field(default=128, ge=0)
    steps: int = Field(default=18, ge=1)
    guidance: float = Field(default=5.0, ge=0)
    max_new_tokens: int = Field(default=100, ge=1)


class TrainRunConfig(Settings):
    """The run itself.

    Attributes:
        seed: decides the order of rows, masks and dropped prompts; dropout too, for one number of workers.
        log_every_steps: between two lines.
        peak_tflops: of one worker's device, to tell what share of it is used; null where it is unknown.
    """

    seed: int = Field(default=0, ge=0)
    log_every_steps: int = Field(default=10, ge=1)
    peak_tflops: float | None = Field(default=None, gt=0)


class TrainConfig(Settings):
    """All settings of `uniface train`."""

    data: TrainDataConfig
    sink: SinkConfig
    model: ModelConfig
    stages: StagesConfig = StagesConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig = LoraConfig()
    parallel: ParallelConfig = ParallelConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    run: TrainRunConfig = TrainRunConfig()
    storage: StorageConfig = StorageConfig()
    cluster: ClusterConfig = ClusterConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _the_best_can_be_told(self) -> "TrainConfig":
        saves, looks = self.checkpoint, self.validation
        is_looked_at = looks.rows > 0 and self.data.held_out > 0
        if saves.export == "best" and not (saves.best and is_looked_at):
            raise ValueError(
                f"checkpoint.export is best, but checkpoint.best is {str(saves.best).lower()}, validation.rows "
                f"{looks.rows} and data.held_out {self.data.held_out:g}: none of them may be false or 0, or use "
                "checkpoint.export=last"
            )
        least, most = sorted((saves.every_steps, looks.every_steps))
        if saves.best and is_looked_at and most % least:
            raise ValueError(
                f"checkpoint.every_steps is {saves.every_steps} and validation.every_steps {looks.every_steps}, but "
                "the best checkpoint is one that was looked at: make one a multiple of the other, or use "
                "checkpoint.best=false"
            )
        return self
