"""The schema of a run: every setting, its type, its default and its rule. Unknown settings are refused."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from uniface_ray.core.engine_config import EngineConfig, RemoteConfig
from uniface_ray.core.settings import Settings
from uniface_ray.core.task_config import TaskConfig

# Before the name of what is on the Hugging Face hub.
HUB = "hf://"

SourceFormat = Literal["auto", "images", "parquet", "webdataset", "jsonl", "csv", "huggingface"]


def _share(value: str) -> str:
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", value)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError("must be k/n with 1 <= k <= n, as in 3/16")
    return value


class SourceConfig(Settings):
    """What to read.

    Attributes:
        path: folder, file or s3:// URI, with a pattern such as `**/portrait_*.jpg` if need be; `package://` is what
            ships with the package; hf://owner/name a dataset on the Hugging Face hub.
        format: `auto` looks at the file names.
        split: of a Hugging Face dataset.
        image_column: parquet column of encoded image bytes (or Hugging Face's {bytes, path}).
        uri_column: column of image URIs of a table; relative ones are relative to the file that names them.
        keep_columns: carried through to both outputs.
        keep_prefix: what their names begin with there, such as `given_`, where they would be those of other columns.
        shard: `k/n` takes the k-th of n shares of the files, each into a sink of its own; null takes all.
        prompt_column: column of what to draw (generate, edit).
        caption_column: column of captions of the image: text, or a list of texts (tokenize).
        question_column: column of questions about the image: text, or a list of texts (vqa, tokenize).
        answer_column: column of answers to `question_column`, as many (tokenize).
        conversation_column: column of conversations about the image, in LLaVA's form or chat APIs' (tokenize).
        mask_column: column of masks: encoded image bytes or URIs, white where to draw (edit).
        box_column: column of boxes to draw in: [x0, y0, x1, y1] as fractions of the image (edit).
        seed_column: column of whole numbers that decide what is drawn by chance, not `run.seed` and the row's id (vqa,
            generate, edit).
        text_column: column of what the image may show: text, or a list of texts (score).
    """

    path: str = Field(min_length=1)
    format: SourceFormat = "auto"
    split: str = "train"
    image_column: str = "image"
    uri_column: str = "uri"
    keep_columns: tuple[str, ...] = ()
    keep_prefix: str = ""
    shard: Annotated[str, AfterValidator(_share)] | None = None
    prompt_column: str | None = None
    caption_column: str | None = None
    question_column: str | None = None
    answer_column: str | None = None
    conversation_column: str | None = None
    mask_column: str | None = None
    box_column: str | None = None
    text_column: str | None = None
    seed_column: str | None = None

    @property
    def kept_names(self) -> dict[str, str]:
        """Of the kept columns in the outputs, by their own."""
        return {name: self.keep_prefix + name for name in self.keep_columns}


class StorageConfig(Settings):
    """How to reach s3:// paths and the http:// and https:// URIs that a table names.

    What of S3 is not set comes from the usual AWS variables. Limits of web hosts hold in each worker process.

    Attributes:
        endpoint: URL of an S3-compatible server; AWS itself where null.
        anonymous: send no credentials (public buckets).
        access_key: with `secret_key`, instead of the environment's; never written to the sink.
        connect_timeout_s: seconds to open a connection.
        request_timeout_s: seconds without an answer before a request is tried again.
        attempts: tries of a request that fails for a passing reason.
        host_connections: requests to one web host at a time.
        host_rate: requests to one web host a second; null for no limit.
        redirects: that are followed before a row is rejected.
        retry_wait_s: a web host that asks for more patience than this (Retry-After) costs the row.
        private_hosts: web URIs may lead to addresses that are not on the internet: this machine, the local network,
            a cloud's metadata service. Off, because whoever writes the table would choose what the job asks there.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    access_key: str | None = Field(default=None, repr=False)
    secret_key: str | None = Field(default=None, repr=False)
    session_token: str | None = Field(default=None, repr=False)
    connect_timeout_s: float = Field(default=5.0, gt=0)
    request_timeout_s: float = Field(default=30.0, gt=0)
    attempts: int = Field(default=6, ge=1)
    host_connections: int = Field(default=4, ge=1)
    host_rate: float | None = Field(default=None, gt=0)
    redirects: int = Field(default=5, ge=0)
    retry_wait_s: float = Field(default=60.0, ge=0)
    private_hosts: bool = False

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> "StorageConfig":
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key go together: give both or neither")
        return self


class SinkConfig(Settings):
    """Where to write."""

    path: str = Field(min_length=1)


class DecodeConfig(Settings):
    """Limits of image decoding.

    Attributes:
        max_bytes: a larger file is rejected as too_large before it is read.
        max_pixels: an image of more pixels is rejected as too_large before it is decoded.
        num_cpus: of one decoding task, which has a process of its own: past the cores, more at a time are no faster.
        timeout_s: seconds that one image may take; one that takes longer is rejected as timeout.
    """

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=64_000_000, ge=1)
    num_cpus: float = Field(default=1.0, gt=0)
    timeout_s: float = Field(default=60.0, gt=0)


class FacesConfig(Settings):
    """Faces in photos: an output row for each face, cut out as the model knows faces.

    Attributes:
        enabled: off, an image is taken as the face that it shows.
        min_score: of the detector, 0..1; surer faces only.
        min_size: pixels of the photo; smaller faces are passed over, and not looked for.
        max_faces: of one photo, the largest first.
    """

    enabled: bool = False
    min_score: float = Field(default=0.6, gt=0, lt=1)
    min_size: int = Field(default=64, ge=16)
    max_faces: int = Field(default=16, ge=1)


class ModelConfig(Settings):
    """Which weights.

    Attributes:
        name: for the outputs' `model` column.
        path: folder with config.json, safetensors and tokenizer, local or s3://; with `engine.kind=transformers` also
            hf://owner/name, on the Hugging Face hub.
        adapter: folder of a LoRA adapter that is merged into it; null for the model as it is.
    """

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    adapter: str | None = Field(default=None, min_length=1)


class RunConfig(Settings):
    """The run itself.

    Attributes:
        seed: every row's seed derives from it.
        limit: take this many rows of the source; null for all.
        dry_run: list and plan only; tells what is to be done, with some rows of the source.
        preflight: measure one replica in this process, propose batch and chunk sizes, and write nothing.
        chunk_rows: rows that are read, captioned and committed together; a dead run repeats at most those in flight.
        progress_every_s: seconds between progress lines and rewrites of progress.json.
        max_reject_fraction: a run of which more rows than this are rejected stops; null for no limit.
        max_reject_min_rows: the run must have done so many rows before that counts.
        price_per_replica_hour: of a replica with all it holds, in any currency, to tell what rows cost.
    """

    seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    dry_run: bool = False
    preflight: bool = False
    chunk_rows: int = Field(default=256, ge=1)
    progress_every_s: float = Field(default=5.0, gt=0)
    max_reject_fraction: float | None = Field(default=None, ge=0, le=1)
    max_reject_min_rows: int = Field(default=1000, ge=1)
    price_per_replica_hour: float | None = Field(default=None, ge=0)


class ClusterConfig(Settings):
    """Where Ray runs.

    Attributes:
        address: `auto` joins the cluster of RAY_ADDRESS, else starts a local Ray; `local`, or a cluster's address.
        num_cpus: logical CPUs of a local Ray; null is the machine's, at least 4.
    """

    address: str = "auto"
    num_cpus: int | None = Field(default=None, ge=1)


class ReportConfig(Settings):
    """report.html.

    Attributes:
        images: false keeps faces out of the report.
        samples: results on the contact sheet.
    """

    images: bool = True
    samples: int = Field(default=40, ge=0)


class JobConfig(Settings):
    """All settings of one run."""

    source: SourceConfig
    sink: SinkConfig
    task: TaskConfig
    model: ModelConfig
    storage: StorageConfig = StorageConfig()
    decode: DecodeConfig = DecodeConfig()
    faces: FacesConfig = FacesConfig()
    engine: EngineConfig = EngineConfig()
    remote: RemoteConfig = RemoteConfig()
    run: RunConfig = RunConfig()
    cluster: ClusterConfig = ClusterConfig()
    report: ReportConfig = ReportConfig()
