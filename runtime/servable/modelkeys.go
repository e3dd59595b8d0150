package servable

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/runtime/model"
)

// served are the architectures that the engine computes.
var served = model.Architectures()

// ofModel finds what is made of a key under the name of an architecture that is served: its own
// table goes before the one of all. Keys without a rule are judged by model.ParseParams, or mean
// nothing.
func ofModel(architecture, rest string) (entry, bool) {
	for _, t := range ofArchitecture {
		if t.name == architecture {
			if e, ok := t.keys.exactly(rest); ok || model.IsEncoder(architecture) {
				return e, ok
			}
		}
	}
	return ofEvery.exactly(rest)
}

// ofEncoders are the keys of the embedding models, which have none of ofEvery.
var ofEncoders = table{
	{"block_count", computed}, {"embedding_length", computed}, {"feed_forward_length", computed}, {"context_length", computed},
	{"attention.head_count", computed}, {"attention.layer_norm_epsilon", computed},
	{"attention.head_count_kv", entry{what: "must be the number of query heads"}},
	{"attention.key_length", entry{what: "must be the width, divided by the number of heads"}},
	{"attention.value_length", entry{rule: judge(valueLength), what: "must be the size of a key"}},
	{"attention.causal", entry{what: "only false"}},
	{"pooling_type", entry{what: "used: 1, the mean, and 2, the first token"}},
	{"vocab_size", entry{rule: judge(vocabulary), what: "must be the number of tokens"}},
}

// ofEvery are the keys that every other architecture has.
var ofEvery = table{
	{"block_count", computed}, {"embedding_length", computed}, {"feed_forward_length", computed}, {"context_length", computed},
	{"attention.head_count", computed}, {"attention.head_count_kv", computed}, {"attention.key_length", computed}, {"attention.layer_norm_rms_epsilon", computed},
	{"rope.dimension_count", computed}, {"rope.freq_base", computed},
	{"vocab_size", entry{rule: judge(vocabulary), what: "must be the number of tokens"}},
	{"attention.value_length", entry{rule: judge(valueLength), what: "must be the size of a key"}},
	{"attention.causal", entry{rule: boolean(true), what: "only true"}},
	{"attention.scale", entry{rule: judge(attentionScale), what: "must be 1 / sqrt(size of a key)"}},
	{"attention.sliding_window", entry{rule: judge(window), what: "only 0, or no shorter than the context"}},
	{"attention.max_alibi_bias", entry{rule: number(0), what: "only 0"}},
	{"attention.clamp_kqv", entry{rule: number(0), what: "only 0"}},
	{"attn_logit_softcapping", entry{rule: number(0), what: "only 0"}},
	{"final_logit_softcapping", entry{rule: number(0), what: "only 0"}},
	{"logit_scale", entry{rule: number(1), what: "only 1"}},
	{"residual_scale", entry{rule: number(1), what: "only 1"}},
	{"embedding_scale", entry{rule: number(1), what: "only 1"}},
	{"rope.scaling.type", entry{what: "used: `none`, `linear` and `yarn`; llama and granite: `longrope`, too"}},
	{"rope.scaling.factor", computed},
	{"rope.scale_linear", entry{what: "used, where there is no rope.scaling.factor: its older name"}},
	{"rope.scaling.attn_factor", computed},
	{"rope.scaling.original_context_length", entry{what: "used with yarn, and with the factors of longrope"}},
	{"rope.scaling.finetuned", entry{what: "says how the model was made; changes nothing"}},
	{"rope.scaling.yarn_beta_fast", entry{rule: number(32), what: "only 32"}},
	{"rope.scaling.yarn_beta_slow", entry{rule: number(1), what: "only 1"}},
	{"rope.scaling.yarn_ext_factor", entry{rule: number(1), what: "only 1"}},
	{"rope.scaling.yarn_attn_factor", entry{rule: number(1), what: "only 1"}},
	{"rope.scaling.yarn_log_multiplier", entry{rule: number(0), what: "only 0"}},
	{"expert_count", entry{rule: number(0), what: "only 0"}},
	{"expert_used_count", entry{rule: number(0), what: "only 0"}},
	{"expert_shared_count", entry{rule: number(0), what: "only 0"}},
	{"nextn_predict_layers", entry{rule: number(0), what: "only 0"}},
	{"pooling_type", entry{rule: number(0), what: "only 0, none"}},
	{"use_parallel_residual", entry{rule: boolean(false), what: "only false"}},
}

// ofArchitecture are the keys of one architecture, or those that mean something else there. Which
// scalings of the rotation an architecture has, package model says.
var ofArchitecture = []struct {
	name string
	keys table
}{
	{"llama", table{
		{"tensor_data_layout", entry{rule: text{"Meta AI original pth"}, what: "only `Meta AI original pth`, in which neighbours are rotated together"}},
	}},
	{"gemma3", table{
		{"attention.sliding_window", entry{what: "used: what five of six blocks see"}},
		{"attention.sliding_window_pattern", entry{rule: number(6), what: "only 6: each sixth block sees all positions"}},
		{"rope.freq_base_swa", entry{what: "used, in blocks with a window; 10000 if absent"}},
		{"rope.scaling.type", entry{what: "used, in blocks without a window: `none` and `linear`"}},
		{"rope.scaling.attn_factor", entry{rule: number(1), what: "only 1"}},
	}},
	{"phi3", table{
		{"attention.sliding_window", entry{what: "bounds the context: within the window, all readers of the key agree"}},
		{"rope.scaling.type", entry{what: "`none` and `longrope`; the factors' tensors decide"}},
		{"rope.scaling.factor", entry{rule: number(1), what: "only 1"}},
		{"rope.scale_linear", entry{rule: number(1), what: "only 1"}},
		{"rope.scaling.original_context_length", entry{what: "used: longer contexts are rotated by rope_factors_long.weight, others by rope_factors_short.weight"}},
	}},
	{"granite", table{
		{"attention.scale", computed}, {"logit_scale", computed}, {"residual_scale", computed}, {"embedding_scale", computed},
		{"rope.scaling.finetuned", entry{rule: boolean(true), what: "only true; a granite model with false would rotate nothing"}},
	}},
	{"bert", ofEncoders},
	{"nomic-bert", append(ofEncoders[:len(ofEncoders):len(ofEncoders)], table{
		{"rope.freq_base", computed},
		{"rope.dimension_count", entry{what: "must be the size of a key"}},
		{"rope.scaling.type", entry{what: "only `none`"}},
	}...)},
}

func valueLength(c *checker, key string) string {
	n, ok := c.f.Uint(key)
	if c.params != nil && (!ok || n != uint64(c.params.HeadSize)) {
		return fmt.Sprintf("is %d, but keys have %d values; the engine needs both to be equal", n, c.params.HeadSize)
	}
	return ""
}

func attentionScale(c *checker, key string) string {
	v, ok := c.value(key)
	if c.params == nil {
		return ""
	}
	if want := 1 / math.Sqrt(float64(c.params.HeadSize)); !ok || math.Abs(v-want) > 1e-6*want {
		return fmt.Sprintf("is %g; only 1 / sqrt(%d) = %g is supported", v, c.params.HeadSize, want)
	}
	return ""
}

func window(c *checker, key string) string {
	n, ok := c.f.Uint(key)
	if c.params != nil && (!ok || n != 0 && n < uint64(c.params.Context)) {
		return fmt.Sprintf("is %d, less than the context of %d; the engine attends to all positions", n, c.params.Context)
	}
	return ""
}
