"""Small vocabularies trained on texts, and the tokens that their own libraries make of texts.

usage: trained.py < job.json > answer.json

A job names a kind (unigram and bpe of SentencePiece, or wordpiece of Hugging Face's tokenizers), its options,
the texts to train on and those to tokenize. The answer has the vocabulary as a GGUF file lists it.
"""
import io, json, sys

job = json.load(sys.stdin)
kind, options, corpus, texts = job["kind"], job["options"], job["corpus"], job["texts"]


def fields(b):
    """The fields of a protocol buffer: number and value."""
    def varint(i):
        n = shift = 0
        while True:
            n |= (b[i] & 0x7F) << shift
            shift += 7
            i += 1
            if b[i - 1] < 0x80:
                return n, i
    i = 0
    while i < len(b):
        key, i = varint(i)
        size = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if size is None:
            size, i = varint(i)
        if key & 7 == 0:
            value, i = varint(i)
        else:
            value, i = b[i : i + size], i + size
        yield key >> 3, value


def sentencepiece():
    import sentencepiece as spm

    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=out, model_type=kind, hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    sp = spm.SentencePieceProcessor(model_proto=out.getvalue())
    spec = dict(fields(dict(fields(out.getvalue()))[3]))  # ModelProto.normalizer_spec
    ids = range(sp.get_piece_size())
    return {
        "tokens": [sp.id_to_piece(i) for i in ids],
        "scores": [sp.get_score(i) for i in ids],
        "kinds": [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in ids],
        "charsmap": list(spec.get(2, b"")),  # precompiled_charsmap
        "ids": [sp.encode(t) for t in texts],
    }


def wordpiece():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=options["lowercase"], strip_accents=options["strip_accents"])
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=options["size"], show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.encode_special_tokens = True
    tokens = sorted(tok.get_vocab(), key=tok.get_vocab().get)
    kinds = [3] * 5 + [1] * (len(tokens) - 5)
    written = [t if k == 3 else t[2:] if t.startswith("##") else "\u2581" + t for t, k in zip(tokens, kinds)]
    return {"tokens": written, "kinds": kinds, "ids": [tok.encode(t).ids for t in texts]}


json.dump(wordpiece() if kind == "wordpiece" else sentencepiece(), sys.stdout)
