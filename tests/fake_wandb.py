"""W&B's guard without W&B: it remembers which pictures would have been sent."""

from gaze_lightning.guarded_wandb import GuardedWandbLogger


class FakeWandb(GuardedWandbLogger):
    def __init__(self, open_data):
        super().__init__()
        self.prepare(experiment="test", job_type="train", open_data=open_data, source="test data")
        self.uploads = []

    def log_image(self, key, images, step=None, **kwargs):
        self.uploads.append((key, images))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass

    experiment = property(lambda self: None)
