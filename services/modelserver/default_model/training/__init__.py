"""How the default model is trained and judged: `python -m services.modelserver.default_model.training --help`.

Main path: `scenes` → `pictures` → `autoencoder` → `unet` → a pipeline folder, which `evaluate` puts before `judge`.
States of a run: its work folder holds one checkpoint a stage and the finished autoencoder and pipeline, so that a
stopped run goes on with `--resume` where it was. `scenes`, `outlines` and `judge` need Pillow and numpy, no torch.
"""
