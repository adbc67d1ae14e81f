"""A W&B logger that only remembers which pictures it was given."""

from pytorch_lightning.loggers import WandbLogger


class FakeWandb(WandbLogger):
    def __init__(self):
        self.uploads = []
        self._experiment = None

    def log_image(self, key, images, step=None, **kwargs):
        self.uploads.append((key, images))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass

    def after_save_checkpoint(self, checkpoint_callback):
        pass

    def finalize(self, status):
        pass

    save_dir = name = version = experiment = property(lambda self: None)
