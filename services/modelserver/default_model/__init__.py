"""The model that is shipped: `shapes/` is a StableDiffusionPipeline folder, `training/` is how it is made.

Authority for: what the default model can draw, and the judgement of whether it did. Nothing at run time imports the
training package; a model server reads `shapes/` as it reads any other model folder.
"""
