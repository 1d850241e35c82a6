"""Copies are counted while a generator is trained: real training loops of the real frameworks."""

import subprocess
import sys

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference
from memorization_index.integrations.samples import CopyRate, SampleScorer

SLICE = 6
HELD_OUT = (50, 51, 52)


def picture(subject):
    """One slice of a subject, about 0 to 1."""
    return phantoms.anatomy(subject)[SLICE].astype(np.float32) / 1000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A reference of six subjects' 2-D images."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "training").mkdir()
    for subject in range(6):
        np.save(folder / "training" / f"sub-{subject:02d}.npy", picture(subject))
    Reference.build(folder / "training", folder / "reference")
    return folder / "reference"


# --- Without a framework ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [True, False])
def test_copies_among_images_are_counted(pictures, channel):
    samples = np.stack([picture(1)[:, ::-1], *(picture(s) for s in HELD_OUT)])
    scorer = SampleScorer(pictures)
    rate = scorer(samples[:, None] if channel else samples)
    assert (rate.copies, rate.samples, rate.fraction) == (1, 4, 0.25)
    assert list(scorer.scores.volumes["verdict"] == "copy") == [True, False, False, False]
    assert scorer.scores.volumes["match_subject"][0] == "sub-01"


def test_what_holds_nothing_is_no_copy(pictures):
    samples = np.zeros((3, 48, 40), np.float32)
    samples[1] = np.nan
    scorer = SampleScorer(pictures)
    assert scorer(samples) == CopyRate(0, 3, 0)
    assert scorer.scores is None
    samples[2] = picture(3)
    assert scorer(samples) == CopyRate(1, 3, 1)


def test_volumes_in_either_layout(reference):
    volume = phantoms.anatomy(2)[3:9].astype(np.float32)  # (z, y, x), LPS
    ras = volume[:, ::-1, ::-1].transpose()  # (x, y, z): to right, anterior, superior
    for layout, sample, spacing in (("zyx", volume, (4, 1.5, 1.5)), ("RAS", ras, (1.5, 1.5, 4))):
        scorer = SampleScorer(reference, layout=layout, spacing=spacing)
        assert scorer(sample[None, None]) == CopyRate(1, 1, 1)
        assert set(scorer.scores.slices["match_class"]) == {"exact"}, "not turned, not mirrored"
    assert SampleScorer(reference, spacing=(4, 1.5, 1.5))(phantoms.anatomy(60)[None, 3:9]) == CopyRate(0, 1, 0)


def test_a_wrong_shape_or_layout_is_said(pictures):
    with pytest.raises(MemorizationIndexError, match=r"\(2, 3, 8, 8, 8\).*one channel"):
        SampleScorer(pictures)(np.zeros((2, 3, 8, 8, 8)))
    with pytest.raises(MemorizationIndexError, match="layout='xyz'"):
        SampleScorer(pictures, layout="xyz")
    with pytest.raises(MemorizationIndexError, match=r"--training-root gone: is no folder"):
        SampleScorer(pictures, training_root="gone")


def test_samples_of_another_kind_than_the_reference_are_said(pictures, reference):
    random = np.random.default_rng(0)
    with pytest.raises(MemorizationIndexError, match=r"\(2, 3, 64, 64\).*built on images.*one channel"):
        SampleScorer(pictures)(random.random((2, 3, 64, 64)))  # colors
    with pytest.raises(MemorizationIndexError, match=r"\(2, 1, 64, 64\).*built on volumes"):
        SampleScorer(reference)(random.random((2, 1, 64, 64)))


@pytest.mark.parametrize("samples", [np.zeros((2, 8, 8)), [np.zeros((8, 8))], None])
def test_arrays_instead_of_paths_are_told_what_scores_them(pictures, samples):
    for call in (Reference.open(pictures).score, Reference.open(pictures).extend, Reference.build):
        with pytest.raises(MemorizationIndexError, match=r"are no paths; .*integrations\.samples\.SampleScorer"):
            call(samples)


@pytest.mark.parametrize(
    ("module", "framework"),
    [("metric", "torchmetrics"), ("lightning_callback", "lightning"), ("monai_handler", "ignite")],
)
def test_a_missing_framework_is_said(module, framework):
    code = f"""
import sys
sys.modules[{framework!r}] = None
from memorization_index import MemorizationIndexError
try:
    import memorization_index.integrations.{module}
except MemorizationIndexError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install '.[training]'" in done.stdout


def test_public_names_are_listed_before_they_are_imported():
    code = "import memorization_index; print(*dir(memorization_index))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"Reference", "MemorizationDetector", "Scores", "load_encoder"} <= set(done.stdout.split())


def test_the_interval_is_clopper_and_pearsons():
    # Textbook values: 0 of 10, 5 of 10, 10 of 10.
    assert CopyRate(0, 10, 0).interval == pytest.approx((0, 0.30850), abs=1e-4)
    assert CopyRate(5, 10, 5).interval == pytest.approx((0.18709, 0.81291), abs=1e-4)
    assert CopyRate(10, 10, 10).interval == pytest.approx((0.69150, 1), abs=1e-4)
    assert np.isnan(CopyRate(0, 0, 0).fraction)


def test_images_that_p_alone_flags_count_less_what_chance_flags():
    assert CopyRate(71, 128, 90).fraction == pytest.approx((90 / 128 - 0.01) / 0.99)
    assert CopyRate(0, 100, 1).fraction == pytest.approx(0, abs=1e-12), "one in a hundred is chance"
    low, high = CopyRate(71, 128, 90).interval
    assert low < 90 / 128 < high
    assert low > CopyRate(71, 128, 71).interval[0]


def test_what_is_logged():
    assert list(CopyRate(1, 2, 1).metrics("val_")) == [
        "val_copied_fraction",
        "val_copied_fraction_low",
        "val_copied_fraction_high",
    ]


def test_no_framework_is_imported_unasked():
    code = (
        "import sys, memorization_index.integrations.samples;"
        "print(sorted({'torch', 'lightning', 'ignite', 'monai', 'torchmetrics'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- In training loops -----------------------------------------------------------------------------------------------

RATE, STEPS = 0.1, 30
EPOCHS, EVERY = 6, 3


def targets(torch):
    """What the generators learn by heart: three pictures of the reference and three of people outside it."""
    shown = np.stack([picture(s) for s in (0, 2, 4, *HELD_OUT)])
    return torch.from_numpy(shown)[:, None]


def generator(torch):
    """The least generator that can learn by heart: one picture for each of six codes, at first noise."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 48 * 40)
    return torch.nn.Sequential(table, torch.nn.Unflatten(1, (1, 48, 40)))


def test_metric(pictures):
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("torchmetrics", reason="needs torchmetrics")
    from memorization_index.integrations.metric import CopiedFraction

    metric = CopiedFraction(pictures)
    metric.update(targets(torch)[:4])
    metric.update(targets(torch)[4:])
    values = metric.compute()
    assert float(values["copied_fraction"]) == pytest.approx(0.5)
    assert float(values["copied_fraction_low"]) < 0.5 < float(values["copied_fraction_high"])
    metric.reset()
    assert float(metric(targets(torch)[:3])["copied_fraction"]) == 1


def test_lightning_trains_a_generator_until_it_copies(pictures, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning")
    from lightning.pytorch.loggers import CSVLogger
    from memorization_index.integrations.lightning_callback import MemorizationCallback

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.generator = generator(torch)
            self.modes = []

        def training_step(self, batch, _index):
            codes, wanted = batch
            return torch.nn.functional.mse_loss(self.generator(codes), wanted)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=RATE)

        def sample(self):
            self.modes.append((self.training, torch.is_grad_enabled()))
            return self.generator(torch.arange(6))

    data = torch.utils.data.TensorDataset(torch.arange(6).repeat(STEPS), targets(torch).repeat(STEPS, 1, 1, 1))
    watch = MemorizationCallback(Model.sample, pictures, every_n_epochs=EVERY, reports=tmp_path / "reports")
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        callbacks=[watch],
        logger=CSVLogger(tmp_path),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    model = Model()
    assert float(watch.metric(model.sample())["copied_fraction"]) == 0, "noise is no copy"
    model.modes.clear()
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=6))
    assert float(trainer.callback_metrics["copied_fraction"]) == pytest.approx(0.5)
    assert model.modes == [(False, False)] * (EPOCHS // EVERY)
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == ["epoch-0003", "epoch-0006"]
    assert (tmp_path / "reports" / "epoch-0006" / "report.html").stat().st_size > 1000
    [metrics] = tmp_path.glob("lightning_logs/version_0/metrics.csv")
    assert "copied_fraction_high" in metrics.read_text(encoding="utf-8").splitlines()[0]


def test_monai_trains_a_generator_until_it_copies(pictures):
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("ignite", reason="needs pytorch-ignite")
    monai = pytest.importorskip("monai", reason="needs monai")
    from ignite.engine import Events
    from memorization_index.integrations.monai_handler import MemorizationHandler
    from monai.engines import SupervisedTrainer
    from monai.handlers import MetricLogger

    network = generator(torch)
    data = [{"image": code, "label": wanted} for code, wanted in zip(torch.arange(6), targets(torch), strict=True)]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        train_data_loader=monai.data.DataLoader(data * STEPS, batch_size=6),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=RATE),
        loss_function=torch.nn.MSELoss(),
    )
    grads, seen = [], []

    def sample(engine):
        grads.append(torch.is_grad_enabled())
        return engine.network(torch.arange(6))

    MemorizationHandler(sample, pictures, every_n_epochs=EVERY, layout="zyx").attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=EVERY), lambda e: seen.append(dict(e.state.metrics)))
    logger = MetricLogger()
    logger.attach(trainer)
    trainer.run()
    assert grads == [False] * (EPOCHS // EVERY)
    assert [set(metrics) for metrics in seen] == [
        {"copied_fraction", "copied_fraction_low", "copied_fraction_high"}
    ] * 2
    assert seen[-1]["copied_fraction"] == pytest.approx(0.5)


def test_every_epochs_must_be_a_number_of_epochs(pictures):
    pytest.importorskip("ignite", reason="needs pytorch-ignite")
    from memorization_index.integrations.monai_handler import MemorizationHandler

    with pytest.raises(MemorizationIndexError, match="every_n_epochs=0"):
        MemorizationHandler(lambda engine: None, pictures, every_n_epochs=0)
