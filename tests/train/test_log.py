"""The run's log and its curves."""

from anygrain.train.log import Log, draw_curves


def test_an_empty_log_draws_nothing(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_curves_are_a_picture(tmp_path):
    log = Log(tmp_path / "log.jsonl", 0)
    for step in (1, 2):
        log.write(step, {"loss/total": 1.0 / step, "lr": 1e-3})
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
