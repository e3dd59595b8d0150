package servable

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/model"
)

// rule judges the value of a key that is there.
type rule interface {
	// wrong says what is wrong with the value, or nothing.
	wrong(c *checker, key string) string
}

// entry is what is made of a key.
type entry struct {
	rule rule   // nil accepts every value
	what string // what the engine does with it, for docs/models.md
	note bool   // say that it is not used
}

// table has the entries of names, each once. It is no map: the program would fill that at
// each start, by 12 KiB of code.
type table []struct {
	name string
	entry
}

// The keys are those of the GGUF specification (ggml-org/ggml, docs/gguf.md) and of
// gguf-py's constants (package gguf 0.19.0, constants.py); what a key does is llama.cpp's
// reading of it (src/llama-model.cpp, src/models, src/llama-vocab.cpp).
var (
	computed    = entry{what: "used"}
	description = entry{what: "describes the file; changes nothing"}
)

// general are the keys under general. that are known.
var general = table{
	{"architecture", computed},
	{"alignment", computed},
	{"type", entry{rule: text{"model"}, what: "only `model`; adapters, vocabularies and projectors are not models"}},
	{"quantization_version", entry{rule: number(2), what: "only 2, the block layout that the engine reads"}},
	{"file_type", entry{what: "the type of most tensors; each tensor states its own"}},
	{"name", description}, {"author", description}, {"version", description}, {"organization", description},
	{"finetune", description}, {"basename", description}, {"description", description}, {"quantized_by", description},
	{"size_label", description}, {"parameter_size_class", description}, {"license", description}, {"license.name", description}, {"license.link", description},
	{"url", description}, {"doi", description}, {"uuid", description}, {"repo_url", description},
	{"source.url", description}, {"source.doi", description}, {"source.uuid", description}, {"source.repo_url", description}, {"source.huggingface.repository", description},
	{"tags", description}, {"languages", description}, {"datasets", description},
	{"base_model.*", description}, {"dataset.*", description},
	{"sampling.*", entry{what: "the publisher's suggestions for sampling; requests state their own", note: true}},
}

// ofTokenizer are the keys under tokenizer. that are known.
var ofTokenizer = table{
	{"ggml.model", entry{what: "only `gpt2`, byte-level BPE, `llama`, SentencePiece BPE, and, of embedding models, `bert`, WordPiece, and `t5`, the unigram model"}},
	{"ggml.pre", entry{what: "used with byte-level BPE: the pre-tokenizers that the refusal lists"}},
	{"ggml.tokens", computed},
	{"ggml.token_type", computed},
	{"ggml.merges", entry{what: "used with byte-level BPE"}},
	{"ggml.scores", entry{what: "used with SentencePiece; byte-level BPE has merges"}},
	{"ggml.bos_token_id", entry{rule: judge(token), what: "used"}},
	{"ggml.eos_token_id", entry{rule: judge(token), what: "used"}},
	{"ggml.eot_token_id", entry{rule: judge(token), what: "used: ends an answer"}},
	{"ggml.eom_token_id", entry{rule: judge(token), what: "used: ends an answer"}},
	{"ggml.fim_pad_token_id", entry{rule: judge(token), what: "used: ends an answer"}},
	{"ggml.fim_rep_token_id", entry{rule: judge(token), what: "used: ends an answer"}},
	{"ggml.fim_sep_token_id", entry{rule: judge(token), what: "used: ends an answer"}},
	{"ggml.fim_pre_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.fim_suf_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.fim_mid_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.prefix_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.suffix_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.middle_token_id", entry{rule: judge(token), what: "for infilling, which is not offered"}},
	{"ggml.unknown_token_id", entry{rule: judge(token), what: "used with WordPiece; else every byte is known; the chat template's `unk_token`"}},
	{"ggml.padding_token_id", entry{rule: judge(token), what: "for training in batches; the chat template's `pad_token`"}},
	{"ggml.separator_token_id", entry{rule: judge(token), what: "used with WordPiece, behind a text"}},
	{"ggml.seperator_token_id", entry{rule: judge(token), what: "the same, spelled this way in files; the chat template's `sep_token`"}},
	{"ggml.cls_token_id", entry{rule: judge(token), what: "used with WordPiece, before a text (bos_token_id if absent); the chat template's `cls_token`"}},
	{"ggml.mask_token_id", entry{rule: judge(token), what: "for models that fill gaps; the chat template's `mask_token`"}},
	{"ggml.add_bos_token", computed},
	{"ggml.add_eos_token", entry{rule: judge(enclosed), what: "only false; with WordPiece, unigram and the pre-tokenizer roberta-bpe only true"}},
	{"ggml.add_sep_token", entry{rule: judge(separated), what: "only false; with WordPiece only true; with unigram and roberta-bpe for pairs of texts, which are not offered"}},
	{"ggml.token_type_count", entry{rule: judge(tokenTypes), what: "used by embedding models: rows of token_types.weight, of which a text has the first"}},
	{"ggml.add_space_prefix", entry{rule: judge(spacePrefix), what: "used with SentencePiece, true if absent; with unigram only true; with byte-level BPE only false"}},
	{"ggml.remove_extra_whitespaces", entry{rule: judge(extraSpaces), what: "only false; with unigram only true"}},
	{"ggml.precompiled_charsmap", entry{rule: judge(charsmap), what: "used with unigram; others would ignore it"}},
	{"ggml.normalizer.lowercase", entry{rule: judge(letters), what: "used with WordPiece, true if absent and no token has a capital letter; others would ignore it"}},
	{"ggml.normalizer.strip_accents", entry{rule: judge(letters), what: "used with WordPiece, the same as normalizer.lowercase if absent; others would ignore it"}},
	{"ggml.added_tokens", entry{rule: judge(addedTokens), what: "each must be a control or user-defined token of the vocabulary"}},
	{"chat_template", computed},
	{"chat_templates", entry{what: "names the templates other than the default one", note: true}},
	{"chat_template.*", entry{what: "a template other than the default one, for uses that are not offered", note: true}},
}

// ofFile are the keys under split. and quantize. that are known.
var ofFile = table{
	{"split.no", entry{rule: number(0), what: "only 0: a model is sealed from one file (llama-gguf-split --merge)"}},
	{"split.count", entry{rule: judge(atMostOne), what: "only 0 and 1: a model is sealed from one file (llama-gguf-split --merge)"}},
	{"split.tensors.count", entry{rule: judge(allTensors), what: "must be the number of tensors"}},
	{"quantize.imatrix.*", entry{what: "says how the file was quantized; changes nothing"}},
}

// architectures are those that llama.cpp knows: a key under their names may change a result.
var architectures = strings.Fields(`llama llama4 deci falcon falcon-h1 baichuan grok gpt2 gptj gptneox mpt starcoder refact bert modern-bert
	nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert bloom stablelm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3next qwen3vl
	qwen3vlmoe qwen35 qwen35moe phi2 phi3 phimoe plamo plamo2 plamo3 codeshell orion internlm2 minicpm minicpm3 gemma gemma2 gemma3 gemma3n gemma4
	gemma-embedding starcoder2 rwkv6 rwkv6qwen2 rwkv7 arwkv7 mamba mamba2 jamba xverse command-r cohere2 dbrx olmo olmo2 olmoe openelm arctic
	deepseek deepseek2 deepseek2-ocr chatglm glm4 glm4moe glm-dsa bitnet t5 t5encoder jais jais2 nemotron nemotron_h nemotron_h_moe exaone exaone4
	exaone-moe granite granitemoe granitehybrid chameleon wavtokenizer-dec plm bailingmoe bailingmoe2 dots1 arcee afmoe ernie4_5 ernie4_5-moe
	hunyuan-moe hunyuan-dense hunyuan_vl smollm3 gpt-oss lfm2 lfm2moe dream smallthinker llada llada-moe seed_oss grovemoe apertus cogvlm minimax-m2
	rnd1 pangu-embedded mistral3 mistral4 paddleocr mimo2 step35 llama-embed maincoder kimi-linear`)

// closed are the other beginnings of keys that llama.cpp and its tools read.
var closed = []string{"general", "tokenizer", "split", "quantize", "adapter", "clip", "control_vector", "imatrix", "training", "optimizer", "diffusion"}

// keys judges every key.
func (c *checker) keys() {
	for _, key := range c.f.Keys() {
		space, rest, dotted := strings.Cut(key, ".")
		architecture, _ := c.f.String("general.architecture")
		e, known := lookUp(space, rest, key, architecture)
		switch {
		case known && e.rule != nil:
			if wrong := e.rule.wrong(c, key); wrong != "" {
				c.find(CodeKeyValue, key, "%s", wrong)
			}
		case known:
		case space == architecture && !slices.Contains(served, space): // said once, of the architecture
		case !dotted || slices.Contains(closed, space) || slices.Contains(architectures, space):
			c.find(CodeKeyUnknown, key, "this version does not know this key, and it may change the result; if it is only a remark, remove it (gguf_new_metadata --remove-metadata %s)", key)
		default:
			c.Notes = append(c.Notes, Note{key, "a remark by the file's makers: no GGUF reader gives this name a meaning"})
		}
		if known && e.note {
			c.Notes = append(c.Notes, Note{key, e.what})
		}
	}
}

// lookUp finds what is made of a key of a model of the architecture.
func lookUp(space, rest, key, architecture string) (entry, bool) {
	switch space {
	case "general":
		return general.find(rest)
	case "tokenizer":
		return ofTokenizer.find(rest)
	}
	// Where the architecture itself is refused, its keys are not blamed as well.
	if slices.Contains(served, space) && (space == architecture || !slices.Contains(served, architecture)) {
		return ofModel(space, rest)
	}
	return ofFile.find(key)
}

// find finds a name, or the entry that ends in * for all that begin so.
func (t table) find(name string) (entry, bool) {
	if e, ok := t.exactly(name); ok {
		return e, true
	}
	for at := len(name); at > 0; {
		if at = strings.LastIndexByte(name[:at], '.'); at < 0 {
			break
		}
		if e, ok := t.exactly(name[:at] + ".*"); ok {
			return e, true
		}
	}
	return entry{}, false
}

func (t table) exactly(name string) (entry, bool) {
	for _, e := range t {
		if e.name == name {
			return e.entry, true
		}
	}
	return entry{}, false
}

// value reads a number of whatever type.
func (c *checker) value(key string) (float64, bool) {
	if v, ok := c.f.Float(key); ok {
		return v, true
	}
	if v, ok := c.f.Uint(key); ok {
		return float64(v), true
	}
	v, ok := c.f.Int(key)
	return float64(v), ok
}

// number is the one number that a key may have.
type number float64

func (want number) wrong(c *checker, key string) string {
	if v, ok := c.value(key); !ok {
		return fmt.Sprintf("is not a single number; only %g is supported", want)
	} else if v != float64(want) {
		return fmt.Sprintf("is %g; only %g is supported", v, want)
	}
	return ""
}

// boolean is the one truth value that a key may have.
type boolean bool

func (want boolean) wrong(c *checker, key string) string {
	if v, ok := c.f.Bool(key); !ok {
		return fmt.Sprintf("is not a boolean; only %t is supported", want)
	} else if v != bool(want) {
		return fmt.Sprintf("is %t; only %t is supported", v, want)
	}
	return ""
}

// text are the texts that a key may have.
type text []string

func (want text) wrong(c *checker, key string) string {
	if v, ok := c.f.String(key); !ok || !slices.Contains(want, v) {
		return fmt.Sprintf("is %.60q; supported: %s", v, strings.Join(want, ", "))
	}
	return ""
}

// judge is a rule of its own.
type judge func(c *checker, key string) string

func (j judge) wrong(c *checker, key string) string { return j(c, key) }

func atMostOne(c *checker, key string) string {
	if n, ok := c.f.Uint(key); !ok || n > 1 {
		return fmt.Sprintf("the model is split into %d files; merge them into one (llama-gguf-split --merge)", n)
	}
	return ""
}

func allTensors(c *checker, key string) string {
	if n, ok := c.f.Uint(key); !ok || n != uint64(len(c.f.Tensors)) {
		return fmt.Sprintf("the model has %d tensors, this file %d; merge all parts into one file (llama-gguf-split --merge)", n, len(c.f.Tensors))
	}
	return ""
}

// tokens is the size of the vocabulary.
func (c *checker) tokens() uint64 {
	list, _ := c.f.Strings("tokenizer.ggml.tokens")
	return uint64(list.Len())
}

func vocabulary(c *checker, key string) string {
	if n, ok := c.f.Uint(key); !ok || n != c.tokens() {
		return fmt.Sprintf("is %d, but the file has %d tokens", n, c.tokens())
	}
	return ""
}

func token(c *checker, key string) string {
	if n, ok := c.f.Uint(key); !ok || n >= c.tokens() {
		return fmt.Sprintf("is %d, which is outside a vocabulary of %d tokens", n, c.tokens())
	}
	return ""
}

// reads says whether the tokenizer is one of those for which package tokenize reads a key itself.
func (c *checker) reads(tokenizers ...string) bool {
	kind, _ := c.f.String("tokenizer.ggml.model")
	return slices.Contains(tokenizers, kind)
}

// spacePrefix is what SentencePiece puts before a text; what it would mean to byte-level BPE,
// llama.cpp alone knows.
func spacePrefix(c *checker, key string) string {
	if c.reads("llama", "t5") {
		return ""
	}
	return boolean(false).wrong(c, key)
}

// enclosed is the key that puts a token behind a text.
func enclosed(c *checker, key string) string {
	if c.reads("bert", "t5") || c.roberta() {
		return ""
	}
	return boolean(false).wrong(c, key)
}

// roberta says whether byte-level BPE is that of embedding models.
func (c *checker) roberta() bool {
	pre, _ := c.f.String("tokenizer.ggml.pre")
	return c.reads("gpt2") && pre == "roberta-bpe"
}

// separated is the key that puts another behind it; with unigram and roberta-bpe, between two texts.
func separated(c *checker, key string) string {
	if c.reads("bert") {
		return ""
	}
	if _, ok := c.f.Bool(key); ok && (c.reads("t5") || c.roberta()) {
		return ""
	}
	return boolean(false).wrong(c, key)
}

func extraSpaces(c *checker, key string) string {
	if c.reads("t5") {
		return ""
	}
	return boolean(false).wrong(c, key)
}

func charsmap(c *checker, key string) string {
	if !c.reads("t5") {
		return "is for the unigram model (`t5`); other tokenizers would ignore it"
	}
	if _, ok := c.f.Ints(key); !ok {
		return "is not a list of bytes"
	}
	return ""
}

func letters(c *checker, key string) string {
	if !c.reads("bert") {
		return "is for WordPiece (`bert`); other tokenizers would ignore it"
	}
	if _, ok := c.f.Bool(key); !ok {
		return "is not a boolean"
	}
	return ""
}

// tokenTypes counts embeddings that no generative model has.
func tokenTypes(c *checker, key string) string {
	if !model.IsEncoder(c.name) {
		return "is for embedding models; others would ignore it"
	}
	if _, ok := c.f.Uint(key); !ok {
		return "is not a number"
	}
	return "" // package model reads it
}

// addedTokens are in the vocabulary as tokens that are found before words are split.
func addedTokens(c *checker, key string) string {
	added, ok := c.f.Strings(key)
	list, _ := c.f.Strings("tokenizer.ggml.tokens")
	kinds, _ := c.f.Ints("tokenizer.ggml.token_type")
	const control, userDefined = 3, 4
	found := map[string]bool{}
	for i, kind := range kinds[:min(len(kinds), list.Len())] {
		if kind == control || kind == userDefined {
			found[string(list.At(i))] = true
		}
	}
	if !ok {
		return "is not a list of strings"
	}
	for i := range added.Len() {
		if !found[string(added.At(i))] {
			return fmt.Sprintf("%.60q is not a control or user-defined token of the vocabulary", added.At(i))
		}
	}
	return ""
}
