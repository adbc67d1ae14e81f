"""``python -m gaze_lightning``."""

from gaze_lightning.main import main

if __name__ == "__main__":
    main()
