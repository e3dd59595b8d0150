package openai

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
)

// surface is a set of places where clients put parameters.
type surface uint

// The places: three paths of OpenAI's form, its embeddings, and Ollama's paths with their options.
const (
	inChat surface = 1 << iota
	inPlain
	inResponses
	inEmbeddings
	inOllama
	inOptions
	inEmbed
	inEmbedOptions
	inShow

	inOpenAI = inChat | inPlain | inResponses
)

// surfaceNames are what the manual calls the places.
var surfaceNames = []string{"chat", "completions", "responses", "embeddings", "Ollama", "Ollama options", "embed", "embed options", "show"}

// String lists the places, in the words of the manual.
func (s surface) String() string {
	var list []string
	for i, name := range surfaceNames {
		if s&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

// neutralParameter is a parameter that is not implemented, with the values that mean not to use it,
// or to do what is done anyway. Without values it is a label: none changes the answer.
type neutralParameter struct {
	name   string
	in     surface
	values []string // JSON
}

// neutral are the parameters that clients send without being asked to. Parameters of a sampler that
// is off, as mirostat_tau is with mirostat 0, change nothing, and are labels.
var neutral = []neutralParameter{
	// Who asks, and for whose books.
	{"user", inOpenAI | inEmbeddings, nil}, {"metadata", inOpenAI | inEmbeddings, nil}, {"safety_identifier", inOpenAI | inEmbeddings, nil},
	{"prompt_cache_key", inOpenAI, nil}, {"prompt_cache_retention", inOpenAI, nil}, {"cache_prompt", inOpenAI, nil},
	{"store", inOpenAI, []string{"false"}}, {"service_tier", inOpenAI | inEmbeddings, []string{`"auto"`, `"default"`}}, {"priority", inOpenAI | inEmbeddings, []string{"0"}},

	// Other kinds of answers.
	{"best_of", inOpenAI, []string{"1"}}, {"use_beam_search", inOpenAI, []string{"false"}}, {"length_penalty", inOpenAI, []string{"1"}}, {"suffix", inOpenAI | inOllama, []string{`""`}},
	{"functions", inChat, []string{"[]"}}, {"function_call", inChat, []string{`"none"`, `"auto"`}},
	{"modalities", inChat, []string{`["text"]`}}, {"verbosity", inChat, []string{`"medium"`}}, {"documents", inChat, []string{"[]"}},
	{"plugins", inChat, []string{"[]"}}, {"transforms", inChat, []string{"[]"}}, {"add_generation_prompt", inChat, []string{"true"}}, {"continue_final_message", inChat, []string{"false"}},
	{"background", inResponses, []string{"false"}}, {"truncation", inResponses, []string{`"disabled"`}}, {"max_tool_calls", inResponses, nil},
	{"previous_response_id", inResponses, []string{`""`}}, {"conversation", inResponses, []string{`""`}}, {"prompt", inResponses, []string{"{}"}}, {"context_management", inResponses, []string{"[]"}},

	// Samplers that are off, and what is done with tokens.
	{"typical_p", inOpenAI | inOptions, []string{"1"}}, {"tfs_z", inOpenAI | inOptions, []string{"1"}}, {"top_a", inOpenAI, []string{"0"}}, {"repetition_penalty", inOpenAI, []string{"1"}},
	{"mirostat", inOpenAI | inOptions, []string{"0"}}, {"mirostat_tau", inOpenAI | inOptions, nil}, {"mirostat_eta", inOpenAI | inOptions, nil},
	{"xtc_probability", inOpenAI, []string{"0"}}, {"xtc_threshold", inOpenAI, nil}, {"dynatemp_range", inOpenAI, []string{"0"}}, {"dynatemp_exponent", inOpenAI, nil},
	{"dry_multiplier", inOpenAI, []string{"0"}}, {"dry_base", inOpenAI, nil}, {"dry_allowed_length", inOpenAI, nil}, {"dry_penalty_last_n", inOpenAI, nil}, {"dry_sequence_breakers", inOpenAI, nil},
	{"top_n_sigma", inOpenAI, []string{"-1", "0"}}, {"penalize_newline", inOptions, []string{"true"}}, {"min_tokens", inOpenAI, []string{"0"}}, {"min_keep", inOpenAI, []string{"0"}},
	{"ignore_eos", inOpenAI, []string{"false"}}, {"stop_token_ids", inOpenAI, []string{"[]"}}, {"include_stop_str_in_output", inOpenAI, []string{"false"}}, {"skip_special_tokens", inOpenAI, []string{"true"}},
	{"n_probs", inOpenAI, []string{"0"}}, {"n_keep", inOpenAI, []string{"0"}}, {"id_slot", inOpenAI, []string{"-1"}}, {"return_tokens", inOpenAI, []string{"false"}},
	{"timings_per_token", inOpenAI, []string{"false"}}, {"return_progress", inOpenAI, []string{"false"}}, {"post_sampling_probs", inOpenAI, []string{"false"}},

	// Vectors have length 1, and their texts are enclosed as the model wants it.
	{"normalize", inEmbeddings, []string{"true"}}, {"embd_normalize", inEmbeddings, []string{"2"}}, {"add_special_tokens", inEmbeddings, []string{"true"}},

	// Ollama's: how long a model is kept, and how its process runs.
	{"keep_alive", inOllama | inEmbed, nil}, {"template", inOllama | inShow, []string{`""`}}, {"context", inOllama, []string{"[]"}}, {"images", inOllama, []string{"[]"}},
	{"truncate", inOllama, []string{"false"}}, {"shift", inOllama, []string{"false"}}, {"raw", inOllama, []string{"false"}},
	{"verbose", inShow, nil}, {"system", inShow, []string{`""`}}, {"options", inShow, []string{"{}"}},
	{"num_ctx", inOptions, nil}, {"num_batch", inOptions | inEmbedOptions, nil}, {"num_gpu", inOptions | inEmbedOptions, nil}, {"main_gpu", inOptions | inEmbedOptions, nil},
	{"num_thread", inOptions | inEmbedOptions, nil}, {"num_gqa", inOptions | inEmbedOptions, nil}, {"num_keep", inOptions | inEmbedOptions, nil}, {"use_mmap", inOptions | inEmbedOptions, nil},
	{"use_mlock", inOptions | inEmbedOptions, nil}, {"low_vram", inOptions | inEmbedOptions, nil}, {"numa", inOptions | inEmbedOptions, nil}, {"f16_kv", inOptions | inEmbedOptions, nil},
	{"vocab_only", inOptions | inEmbedOptions, []string{"false"}},
	// Nothing is sampled for vectors.
	{"temperature", inEmbedOptions, nil}, {"top_k", inEmbedOptions, nil}, {"top_p", inEmbedOptions, nil}, {"min_p", inEmbedOptions, nil}, {"seed", inEmbedOptions, nil}, {"stop", inEmbedOptions, nil},
	{"num_predict", inEmbedOptions, nil}, {"repeat_penalty", inEmbedOptions, nil}, {"repeat_last_n", inEmbedOptions, nil}, {"frequency_penalty", inEmbedOptions, nil}, {"presence_penalty", inEmbedOptions, nil},
}

// takeNeutral takes parameters with a neutral value, and refuses the known ones with another.
func (f fields) takeNeutral(in surface) func(*Request) error {
	return func(*Request) error {
		for _, p := range neutral {
			raw, ok := f[p.name]
			if !ok || p.in&in == 0 {
				continue
			}
			if p.values != nil && !rawjson.Null(raw) && !slices.ContainsFunc(p.values, func(v string) bool { return same(raw, v) }) {
				return localapi.BadRequest(p.name, "unsupported-value", fmt.Sprintf("%s other than %s is not supported", p.name, p.values[0]))
			}
			delete(f, p.name)
		}
		return nil
	}
}

// thoughts are the ways in which clients say that a model is not to think, or that it may: by name,
// with the values that mean the former, and those that say nothing.
var thoughts = []struct {
	name      string
	off, none []string
}{
	{"reasoning_effort", []string{`"none"`}, nil},
	{"reasoning", []string{`{"effort":"none"}`, `{"enabled":false}`}, []string{"{}"}},
	{"think", []string{"false"}, nil},
	{"thinking", []string{`{"type":"disabled"}`}, nil},
	{"enable_thinking", []string{"false"}, nil},
	{"chat_template_kwargs", []string{`{"enable_thinking":false}`}, []string{"{}"}},
}

// takeThinking reads whether the model is to think. Off is the template's to do, and nothing to do
// where none thinks; how much and what becomes of it cannot be said.
func (f fields) takeThinking(q *Request) error {
	for _, t := range thoughts {
		raw, ok := f[t.name]
		is := func(v string) bool { return same(raw, v) }
		switch {
		case !ok:
			continue
		case slices.ContainsFunc(t.off, is):
			q.thinking, q.thinkBy = new(bool), t.name
		case t.name == "chat_template_kwargs" && same(raw, `{"enable_thinking":true}`):
			on := true
			q.thinking, q.thinkBy = &on, t.name
		case !slices.ContainsFunc(t.none, is):
			return localapi.BadRequest(t.name, "unsupported-value", fmt.Sprintf("%s other than %s is not supported", t.name, t.off[0]))
		}
		delete(f, t.name)
	}
	return nil
}
