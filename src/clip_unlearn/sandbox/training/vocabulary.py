"""Learns the subword vocabulary of the world's sentences."""

from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from clip_unlearn.sandbox.sentences import corpus

VOCABULARY_SIZE: Final = 1024
START: Final = "<start>"
PAD: Final = "<pad>"
END: Final = "<end>"
CONTEXT_LENGTH: Final = 32


def learn_tokenizer() -> Any:
    """Return the lower-casing byte-level BPE tokenizer, a transformers fast tokenizer.

    `<end>` has the highest id, so that end-of-text pooling by first match and by highest id agree.
    Any text tokenises: unknown words fall apart into pieces and bytes.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # The leading space is put in here because transformers 4 overrides the pre-tokenizer's own `add_prefix_space`.
    steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Prepend(" ")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), *steps])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 3, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    spare = VOCABULARY_SIZE - 3 - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([*(f"<spare{number}>" for number in range(spare)), START, PAD, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=PAD,
        model_max_length=CONTEXT_LENGTH, clean_up_tokenization_spaces=False,
    )  # fmt: skip
