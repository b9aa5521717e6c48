def test_smoke(tiny, pixels):
    print(tiny.model.logits(pixels, ["a photo of a cat.", "dog"]), sum(w.numel() for w in tiny.model.weights.values()))
    print(sorted(p.name for p in tiny.folder.iterdir()))
    from clip_unlearn.models.open import open_model
    m = open_model(tiny.folder)
    print((m.logits(pixels, ["a photo of a cat.", "dog"])- tiny.model.logits(pixels, ["a photo of a cat.", "dog"])).abs().max())
