package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

func (f fields) takeLimits(q *Request) error {
	if err := f.takeEcho(q); err != nil || q.Scores {
		return err
	}
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if _, ok := f[name]; !ok {
			continue
		}
		if q.MaxTokens != 0 {
			return localapi.BadRequest(name, "invalid-value", "max_tokens and max_completion_tokens are mutually exclusive")
		}
		if err := f.take(name, &q.MaxTokens); err != nil {
			return err
		}
		if q.MaxTokens == -1 { // no limit, as llama.cpp's clients say
			q.MaxTokens = 0
			continue
		}
		if q.MaxTokens < 1 {
			return localapi.BadRequest(name, "invalid-value", name+" must be at least 1")
		}
	}
	return f.takeWhole("n", &q.Choices, 1, maxChoices)
}

// takeEcho reads a plain completion of no tokens that repeats its prompt: how likely the model finds
// that text. An answer that begins with its prompt is not offered.
func (f fields) takeEcho(q *Request) error {
	if err := f.take("echo", &q.Scores); err != nil || !q.Scores {
		return err
	}
	if q.Messages != nil {
		return localapi.BadRequest("echo", "unsupported-value", "echo is for plain completions")
	}
	for name, want := range map[string][]string{"max_tokens": {"0"}, "n": {"1"}, "stream": {"false"}} {
		raw, ok := f[name]
		if delete(f, name); name == "max_tokens" && !ok || ok && !same(raw, want[0]) || name == "stream" && q.Stream {
			return localapi.BadRequest(name, "unsupported-value", "echo scores a text: it goes with max_tokens 0 and logprobs, without stream and other choices")
		}
	}
	if _, ok := f["logprobs"]; !ok {
		return localapi.BadRequest("logprobs", "missing-parameter", "echo scores a text: it goes with max_tokens 0 and logprobs")
	}
	return nil
}

// takeWhole takes a whole number within its limits.
func (f fields) takeWhole(name string, v *int, from, upTo int) error {
	if err := f.take(name, v); err != nil {
		return err
	}
	if *v < from || *v > upTo {
		return localapi.BadRequest(name, "invalid-value", fmt.Sprintf("%s must be from %d to %d", name, from, upTo))
	}
	return nil
}

// Numbers of tokens in an option: no context is longer.
const maxCount = 1 << 20

// defaultLast is how many tokens penalties look at, as in llama.cpp.
const defaultLast = 64

func (f fields) takeSampling(q *Request) error {
	g := &q.Gen
	g.Temperature, g.TopP = 1, 1
	g.Penalties = infer.Penalties{Last: defaultLast, Repeat: 1}
	var seed *int64
	if err := f.take("seed", &seed); err != nil {
		return err
	}
	if seed != nil {
		bits := uint64(*seed)
		g.Seed = &bits
	}
	for _, o := range []struct {
		name       string
		v          *float64
		from, upTo float64
	}{
		{"temperature", &g.Temperature, 0, 2}, {"top_p", &g.TopP, 0, 1}, {"min_p", &g.MinP, 0, 1}, {"repeat_penalty", &g.Penalties.Repeat, 0.01, 10},
		{"frequency_penalty", &g.Penalties.Frequency, -2, 2}, {"presence_penalty", &g.Penalties.Presence, -2, 2},
	} {
		if err := f.take(o.name, o.v); err != nil {
			return err
		}
		switch {
		case o.v == &g.TopP && *o.v == 0:
			return localapi.BadRequest(o.name, "invalid-value", fmt.Sprintf("%s must be above 0 and at most %g", o.name, o.upTo))
		case !(*o.v >= o.from && *o.v <= o.upTo):
			return localapi.BadRequest(o.name, "invalid-value", fmt.Sprintf("%s must be from %g to %g", o.name, o.from, o.upTo))
		}
	}
	if err := f.takeWhole("top_k", &g.TopK, -1, maxCount); err != nil {
		return err
	}
	g.TopK = max(g.TopK, 0) // -1 is another spelling of all
	return f.takeWhole("repeat_last_n", &g.Penalties.Last, -1, maxCount)
}

// takeBias reads an object of tokens' ids and what is added to their logits.
func (f fields) takeBias(q *Request) error {
	raw, ok := f["logit_bias"]
	if !ok {
		return nil
	}
	delete(f, "logit_bias")
	wrong := localapi.BadRequest("logit_bias", "invalid-type", "logit_bias must be an object of token ids and numbers")
	err := rawjson.Object(raw, func(name, value []byte) error {
		if len(q.Gen.Bias) == infer.MaxBias {
			return localapi.BadRequest("logit_bias", "invalid-value", fmt.Sprintf("logit_bias must have at most %d tokens", infer.MaxBias))
		}
		id, err := strconv.ParseInt(string(bytes.Trim(name, `"`)), 10, 32)
		if err != nil {
			return wrong
		}
		var add float64
		if json.Unmarshal(value, &add) != nil || rawjson.Null(value) {
			return wrong
		}
		if !(add >= -100 && add <= 100) {
			return localapi.BadRequest("logit_bias", "invalid-value", "a bias must be from -100 to 100")
		}
		q.Gen.Bias = append(q.Gen.Bias, infer.Bias{Token: int32(id), Add: float32(add)})
		return nil
	})
	if errors.Is(err, rawjson.ErrKind) {
		return wrong
	}
	return err
}

// takeLogprobs: a chat says whether, and of how many; a plain completion says of how many.
func (f fields) takeLogprobs(q *Request, chat bool) error {
	if !chat && string(f["logprobs"]) != "false" {
		if _, q.Logprobs = f["logprobs"]; !q.Logprobs {
			return nil
		}
		return f.takeWhole("logprobs", &q.Gen.Top, 0, 5)
	}
	return f.takeChatLogprobs(q)
}

func (f fields) takeChatLogprobs(q *Request) error {
	if err := f.take("logprobs", &q.Logprobs); err != nil {
		return err
	}
	if err := f.takeWhole("top_logprobs", &q.Gen.Top, 0, infer.MaxTop); err != nil {
		return err
	}
	if q.Gen.Top > 0 && !q.Logprobs {
		return localapi.BadRequest("top_logprobs", "invalid-value", "top_logprobs requires logprobs")
	}
	return nil
}

func (f fields) takeStop(q *Request) error {
	raw, ok := f["stop"]
	if !ok {
		return nil
	}
	delete(f, "stop")
	var one string
	var err error
	if json.Unmarshal(raw, &one) == nil {
		q.Gen.Stop = []string{one}
	} else if q.Gen.Stop, err = texts(raw, infer.MaxStops); errors.Is(err, errLong) {
		return localapi.BadRequest("stop", "invalid-value", fmt.Sprintf("stop must have at most %d strings", infer.MaxStops))
	} else if err != nil {
		return localapi.BadRequest("stop", "invalid-type", "stop must be a string or a list of strings")
	}
	for _, stop := range q.Gen.Stop {
		if stop == "" || len(stop) > infer.MaxStopBytes {
			return localapi.BadRequest("stop", "invalid-value", fmt.Sprintf("a stop string must have 1 to %d bytes", infer.MaxStopBytes))
		}
	}
	return nil
}

// same says whether a value is this one, however its numbers and spaces are written, and of an
// object whatever the order of its members, of which null is "not given".
func same(raw []byte, value string) bool {
	if len(raw) > 0 && raw[0] == '{' && value[0] == '{' {
		return sameMembers(raw, []byte(value))
	}
	var x, y float64
	if json.Unmarshal(raw, &x) == nil && json.Unmarshal([]byte(value), &y) == nil {
		return x == y
	}
	var compact bytes.Buffer
	return json.Compact(&compact, raw) == nil && compact.String() == value
}

func sameMembers(a, b []byte) bool {
	x, errX := rawjson.Members(a)
	y, errY := rawjson.Members(b)
	if errX != nil || errY != nil {
		return false
	}
	for _, m := range []fields{x, y} {
		maps.DeleteFunc(m, func(_ string, v []byte) bool { return rawjson.Null(v) })
	}
	return maps.EqualFunc(x, y, func(v, w []byte) bool { return same(v, string(w)) })
}
