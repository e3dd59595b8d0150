package localapi_test

import (
	"strings"
	"testing"
)

// TestTokenizeAndDetokenize: the forms are those of llama-server.
func TestTokenizeAndDetokenize(t *testing.T) {
	f := start(t, nil)
	for body, want := range map[string]string{
		`{"content":"a b"}`: `{"tokens":[0,1]}`,
		`{"content":""}`:    `{"tokens":[]}`,
		`{"content":"a","add_special":true,"model":"tiny"}`:                   `{"tokens":[1000,0]}`,
		`{"content":"a <end>"}`:                                               `{"tokens":[0,2000]}`,
		`{"content":"a <end>","parse_special":false}`:                         `{"tokens":[0,1]}`,
		`{"content":"a","with_pieces":true,"add_special":null}`:               `{"tokens":[{"id":0,"piece":"w0 "}]}`,
		`{"content":"\u0061\ud83d\ude00","with_pieces":false}`:                `{"tokens":[0]}`,
		`{"content":"` + strings.Repeat("x ", 999) + `y","with_pieces":true}`: `{"id":999,"piece":[195]}]}`,
	} {
		if r := f.do(t, "POST", "/tokenize", body); r.status != 200 || !strings.HasSuffix(r.body, want) {
			t.Errorf("%.60s: %d %.200s, want %s", body, r.status, r.body, want)
		}
	}
	for body, want := range map[string]string{
		`{"tokens":[1,2,3]}`:                `{"content":"w1 w2 w3 "}`,
		`{"tokens":[]}`:                     `{"content":""}`,
		`{"tokens":[5,999],"model":"tiny"}`: `{"content":"w5 �"}`,
	} {
		if r := f.do(t, "POST", "/detokenize", body); r.status != 200 || r.body != want {
			t.Errorf("%s: %d %s, want %s", body, r.status, r.body, want)
		}
	}
	if used := f.server.Intake().Budget.Used(); used != 0 {
		t.Errorf("%d bytes are held after all", used)
	}
}

func TestTokenRequestsRefusedByName(t *testing.T) {
	f := start(t, func(c *setup) { c.Memory = 8 << 20 })
	for path, cases := range map[string]map[string][2]string{
		"/tokenize": {
			`[]`: {"", "invalid-json"}, `{}`: {"content", "missing-parameter"}, `{"content":["a"]}`: {"content", "invalid-type"},
			`{"content":"a","add_special":1}`: {"add_special", "invalid-type"}, `{"content":"a","more":1}`: {"more", "unsupported-parameter"},
			`{"content":"a","model":"other"}`:                     {"model", "model_not_found"},
			`{"content":"` + strings.Repeat("x ", 1<<16+1) + `"}`: {"content", "request-too-large"},
		},
		"/detokenize": {
			`{}`: {"tokens", "missing-parameter"}, `{"tokens":"a"}`: {"tokens", "invalid-type"}, `{"tokens":[null]}`: {"tokens", "invalid-type"}, `{"tokens":[1.5]}`: {"tokens", "invalid-type"},
			`{"tokens":[2001]}`: {"tokens", "invalid-value"}, `{"tokens":[-1]}`: {"tokens", "invalid-value"},
			`{"tokens":[1` + strings.Repeat(",1", 1<<16) + `]}`: {"tokens", "request-too-large"},
		},
	} {
		for body, want := range cases {
			if r := f.do(t, "POST", path, body); r.status/100 != 4 || r.param() != want[0] || r.code() != want[1] {
				t.Errorf("%s %.60s: %d %s, want %v", path, body, r.status, r.body, want)
			}
		}
	}
	f.more = []string{"other"}
	if r := f.do(t, "POST", "/tokenize", `{"content":"a"}`); r.status != 400 || r.code() != "missing-parameter" || !strings.Contains(r.body, "tiny, other") {
		t.Errorf("no model of two: %d %s", r.status, r.body)
	}
	f.expire()
	for _, path := range []string{"/tokenize", "/detokenize"} {
		if r := f.do(t, "POST", path, `{"content":"a"}`); r.status != 503 || r.code() != "lease-expired" {
			t.Error(path, r)
		}
	}
}
