"""report: what every other stage wrote -> report/index.html, one page to look at, self-contained."""

from pathlib import Path

from latentmill.config import load_params
from latentmill.files import replacing_folder, write_text
from latentmill.heartbeat import Heartbeat, print_line
from latentmill.report.inputs import Places, read_inputs
from latentmill.report.page import render
from latentmill.stage import stage_process, steady
from latentmill.tracking.project_run import log_project

PLACES = Places(
    data=Path("data/prepared"),
    trials=Path("trials.csv"),
    curves=Path("curves.csv"),
    models=Path("models"),
    evaluation=Path("evaluation"),
    exports=Path("exports"),
)
REPORT = Path("report")


def main() -> None:
    with steady("report"), Heartbeat("making the report"):
        params = load_params()
        with replacing_folder(REPORT) as folder:
            page = render(read_inputs(params, PLACES))
            write_text(folder / "index.html", page)
        print_line(f"{REPORT / 'index.html'}: {len(page.encode()) / 1e6:.1f} MB")
        if "mlflow" in params.train.loggers:
            print_line(log_project(params, PLACES.evaluation, PLACES.exports, REPORT))


if __name__ == "__main__":
    with stage_process():
        main()
