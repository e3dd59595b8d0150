package tokenize

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// preTokenizer cuts text into the words within which tokens merge. Its rules
// are applied one after the other, each to all pieces, matched or not, that the
// ones before it left.
type preTokenizer struct {
	rules  []rule
	direct bool // a word that is a token is taken whole
	addBOS bool // unless the file says otherwise
	embeds bool // only embedding models have it: a text is between two tokens
}

// preTokenizerNames are those of tokenizer.ggml.pre that are served: of the names that llama.cpp knows,
// those that files of the architectures served name. What each means is llama.cpp's reading of it (src/llama-vocab.cpp): where that
// differs from the publisher's tokenizer, a GGUF file was quantized and measured with llama.cpp's.
const preTokenizerNames = "gpt-2 gpt2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling default falcon " +
	"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 " +
	"dbrx smaug-bpe glm4 chatglm-bpe qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 bailingmoe bailingmoe2 llada-moe " +
	"qwen35 seed-coder ufakzeka minicpm5 tekken gpt-4o llama4 kanana2 talkie minimax-m2 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense joyai-llm " +
	"hy_v4 bloom poro-chat gpt3-finnish viking roberta-bpe"

func newPreTokenizer(f *gguf.File) (preTokenizer, error) {
	name, ok := f.String("tokenizer.ggml.pre")
	if !ok {
		return preTokenizer{}, errors.New("the file does not name its pre-tokenizer (tokenizer.ggml.pre is missing)")
	}
	one, three := modern{1, contractionOrLetters, isOther, isNewline}, modern{3, contractionOrLetters, isOther, isNewline}
	rules := func(rules ...rule) (preTokenizer, error) { return preTokenizer{rules: rules}, nil }
	switch name {
	case "gpt-2", "gpt2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling":
		return rules(matchGPT2)
	case "roberta-bpe":
		return preTokenizer{rules: []rule{matchGPT2}, embeds: true}, nil
	case "default":
		return rules(matchRun(defaultPunctuation), matchGPT2, matchRun(unicode.IsNumber), matchThreeDigits)
	case "falcon":
		return rules(matchRun(func(r rune) bool { return r == '`' || defaultPunctuation(r) }), matchGPT2, matchThreeDigits)
	case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
		return rules(matchOne(unicode.IsNumber), matchGPT2)
	case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
		return preTokenizer{rules: []rule{three.match}, direct: true, addBOS: true}, nil
	case "dbrx", "smaug-bpe", "glm4", "chatglm-bpe":
		return rules(three.match)
	case "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2", "bailingmoe", "bailingmoe2", "llada-moe":
		return rules(one.match)
	case "qwen35":
		one.word, one.other = contractionOrMarkedLetters, func(r rune) bool { return isOther(r) && !unicode.IsMark(r) }
		return rules(one.match)
	case "seed-coder":
		one.tail = nil
		return rules(one.match)
	case "ufakzeka":
		one.word = lettersAfterOne
		return rules(one.match)
	case "minicpm5":
		return preTokenizer{rules: []rule{matchAtMost(3, unicode.IsNumber), three.match}, direct: true}, nil
	case "tekken":
		return preTokenizer{rules: []rule{modern{1, caseWord, isOther, isNewlineOrSlash}.match}, direct: true, addBOS: true}, nil
	case "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2":
		return rules(modern{3, caseWordAndContraction, isOther, isNewlineOrSlash}.match)
	case "deepseek-llm":
		return rules(matchOne(isNewline), matchSpaced(isCased), matchSpaced(isDeepSeekSign), matchTrailingSpace, matchRun(isEastAsian), matchRun(unicode.IsNumber))
	case "deepseek-coder":
		return rules(matchOne(isNewline), matchSpaced(unicode.IsLetter), matchSpaced(unicode.IsPunct), matchRun(isEastAsian), matchOne(unicode.IsNumber))
	case "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4":
		return rules(matchAtMost(3, unicode.IsNumber), matchRun(isHanOrKana), matchDeepSeek3)
	case "bloom", "poro-chat", "gpt3-finnish":
		return rules(matchBloom)
	case "viking":
		return rules(matchBloom, matchOne(unicode.IsNumber))
	}
	return preTokenizer{}, fmt.Errorf("pre-tokenizer %.60q is not supported; want %s", name, strings.ReplaceAll(preTokenizerNames, " ", ", "))
}

// matchAtMost matches up to limit characters of the class.
func matchAtMost(limit int, is func(rune) bool) rule {
	return func(s string) (skip, take int) {
		skip = find(s, is)
		return skip, upTo(limit, s[skip:], is)
	}
}

func isNewlineOrSlash(r rune) bool { return isNewline(r) || r == '/' }

func isHanOrKana(r rune) bool { return r >= 0x4e00 && r <= 0x9fa5 || r >= 0x3040 && r <= 0x30ff }

// contractionOrMarkedLetters matches a contraction or [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+.
func contractionOrMarkedLetters(s string) int {
	if n := contraction(s, true); n > 0 {
		return n
	}
	marked := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) }
	r, first := utf8.DecodeRuneInString(s)
	if marked(r) {
		return runLength(s, marked)
	}
	if isNewline(r) || unicode.IsNumber(r) {
		return 0
	}
	if n := runLength(s[first:], marked); n > 0 {
		return first + n
	}
	return 0
}

// caseWord matches a word up to where a capital follows a small letter, as llama.cpp has it, to which
// letters beyond ASCII are both:
//
//	[^\r\n\p{L}\p{N}]?U*W+|[^\r\n\p{L}\p{N}]?U+W*
//
// where U is \p{L} without a to z, and W without A to Z.
func caseWord(s string) int {
	first := 0
	if r, n := utf8.DecodeRuneInString(s); !unicode.IsLetter(r) {
		if isNewline(r) || unicode.IsNumber(r) {
			return 0
		}
		first = n
	}
	upper, lower := func(r rune) bool { return unicode.IsLetter(r) && (r < 'a' || r > 'z') }, func(r rune) bool { return unicode.IsLetter(r) && (r < 'A' || r > 'Z') }
	end := first + runLength(s[first:], upper)
	if n := runLength(s[end:], lower); n > 0 {
		return end + n
	}
	if end == first {
		return 0
	}
	// W+ takes back the last of the letters that is one of W; without any, U+ has them all.
	for at := end; at > first; {
		r, n := utf8.DecodeLastRuneInString(s[first:at])
		if lower(r) {
			return at
		}
		at -= n
	}
	return end
}

func caseWordAndContraction(s string) int {
	n := caseWord(s)
	if n > 0 {
		n += contraction(s[n:], true)
	}
	return n
}

// matchDeepSeek3 finds
//
//	[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// where the first class is ASCII's punctuation.
func matchDeepSeek3(s string) (skip, take int) {
	for skip < len(s) {
		if take = deepSeek3(s[skip:]); take > 0 {
			return skip, take
		}
		_, n := utf8.DecodeRuneInString(s[skip:])
		skip += n
	}
	return skip, 0
}

func deepSeek3(s string) int {
	latin := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	marked := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) }
	sign := func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }
	r, first := utf8.DecodeRuneInString(s)
	if r < utf8.RuneSelf && sign(r) {
		if n := runLength(s[1:], latin); n > 0 {
			return 1 + n
		}
	}
	if marked(r) {
		return runLength(s, marked)
	}
	if !isNewline(r) && !sign(r) {
		if n := runLength(s[first:], marked); n > 0 {
			return first + n
		}
	}
	space := 0
	if r == ' ' {
		space = 1
	}
	if n := runLength(s[space:], sign); n > 0 {
		n += space
		return n + runLength(s[n:], isNewline)
	}
	if n := throughNewline(s); n > 0 {
		return n
	}
	return spaces(s)
}

// matchBloom finds a run of what is neither white space nor one of the signs (|.,!?…。，、।۔،) and takes the
// space before it along.
func matchBloom(s string) (skip, take int) {
	skip = find(s, isBloom)
	take = runLength(s[skip:], isBloom)
	if take > 0 && skip > 0 && s[skip-1] == ' ' {
		skip, take = skip-1, take+1
	}
	return skip, take
}

func isBloom(r rune) bool {
	return !unicode.IsSpace(r) && !strings.ContainsRune("(|.,!?…。，、।۔،)", r)
}
