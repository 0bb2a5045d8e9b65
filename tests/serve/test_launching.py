"""The process of a batch, started as the server starts it."""

import time

from tests.s3_server import S3Server
from tests.serve.conftest import Configure
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_command import secrets_of
from uniface_ray.serve.batch_folder import ENDED
from uniface_ray.serve.batches import Batches, BatchRequest
from uniface_ray.serve.launching import Processes
from uniface_ray.serve.store import Store


def test_a_process_has_the_server_s_keys_to_a_bucket_and_keeps_its_log_there(
    configure: Configure, s3: S3Server, shared_bucket: str
) -> None:
    given = s3.storage
    keys = [f"storage.access_key={given.access_key}", f"storage.secret_key={given.secret_key}"]
    place = f"s3://{shared_bucket}/files of clients"
    config = configure(f"files.path={place}", f"storage.endpoint={given.endpoint}", *keys)
    folder = Folder(place, config.storage)
    input_file = Store(folder, "ann", 1000, 1).put([b"{"], "in.jsonl", "batch")
    batches = Batches(config, folder, {"random": 32}, Processes(config).start)
    asked = BatchRequest(input_file_id=input_file.id, endpoint="/v1/chat/completions", completion_window="24h")
    number = batches.create("ann", asked)["id"]
    batch = batches.find("ann", number)
    batches.tend()
    until = time.monotonic() + 120
    while (state := batch.state())["status"] not in ENDED or not folder.exists(f"{batch.home}/log.txt"):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (state["status"], state["errors"]["data"][0]["code"]) == ("failed", "invalid_json_line")
    assert b"log of the job" not in folder.read(f"{batch.home}/log.txt")


def test_keys_go_by_the_names_that_s3_clients_read(s3: S3Server) -> None:
    assert secrets_of(s3.storage) == {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
