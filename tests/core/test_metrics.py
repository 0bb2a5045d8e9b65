"""What a chunk adds to a run's numbers, without Ray."""

from uniface_ray.core.metrics import METRICS, ChunkNumbers, Recorder, count_chunk, show_workers


def test_every_number_has_its_name_and_counters_add_up() -> None:
    recorder = Recorder()
    chunk = ChunkNumbers(
        3, 6, {"timeout": 2}, {"read": 0.5}, {"read_bytes": 10, "images": 3, "faceless": 1, "tokens": 40}
    )
    count_chunk(recorder, chunk)
    count_chunk(recorder, chunk)
    show_workers(recorder, waiting=4, under_way=2, busy=1, up=2)
    show_workers(recorder, waiting=0, under_way=1, busy=1, up=1)
    assert recorder.values == {
        ("uniface_chunks_total",): 2,
        ("uniface_rows_total", "ok"): 6,
        ("uniface_rows_total", "timeout"): 4,
        ("uniface_rows_out_total",): 12,
        ("uniface_read_bytes_total",): 20,
        ("uniface_images_total",): 6,
        ("uniface_faceless_total",): 2,
        ("uniface_tokens_total",): 80,
        ("uniface_stage_seconds_total", "read"): 1.0,
        ("uniface_chunks_waiting",): 0,
        ("uniface_chunks_under_way",): 1,
        ("uniface_replicas",): 1,
        ("uniface_replicas_busy",): 1,
    }
    assert {name for name, *_ in recorder.values} == {metric.name for metric in METRICS}
    tagged = {metric.name for metric in METRICS if metric.tags}
    assert {name for name, *labels in recorder.values if labels} == tagged
