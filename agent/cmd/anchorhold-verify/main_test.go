package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const (
	vectors = "../../../crypto/zk/groth16verify/testdata/"
	key     = vectors + "groth16-1.vk"
	proof   = vectors + "groth16-1.proof"
)

func call(t *testing.T, args ...string) (code int, out, complaint string) {
	t.Helper()
	var o, c bytes.Buffer
	code = run(t.Context(), args, &o, &c)
	return code, o.String(), c.String()
}

func TestExitCodes(t *testing.T) {
	const model = "417a759f97d636da41c3e8ad5a247f1851d584ab2b5d338716d2b2c4b6726b7e"
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":              {[]string{"--help"}, 0, "Exit status"},
		"version":           {[]string{"--version"}, 0, "anchorhold-verify development"},
		"verified":          {[]string{"--allow-unregistered", "--vk", key, "--model", model, proof}, 0, "verified, groth16-bn254"},
		"flags behind":      {[]string{proof, proof, "--vk", key, "--allow-unregistered", "--json"}, 0, `"verified": true`},
		"refused":           {[]string{"--vk", key, proof}, 3, "key-unregistered"},
		"another model":     {[]string{"--allow-unregistered", "--vk", key, "--model", strings.Repeat("0", 64), proof}, 3, "model-mismatch"},
		"no time":           {[]string{"--allow-unregistered", "--vk", key, "--timeout", "1ns", proof}, 3, "timeout"},
		"not an envelope":   {[]string{"--vk", key, key}, 3, "envelope-malformed"},
		"nothing":           {nil, 2, "name at least one file"},
		"no key":            {[]string{proof}, 2, "--vk is required"},
		"unknown flag":      {[]string{"--what", proof}, 2, "-what"},
		"half a model":      {[]string{"--model", "12", "--vk", key, proof}, 2, "hexadecimal"},
		"file is not there": {[]string{"--vk", key, "none"}, 1, "none"},
		"not a record":      {[]string{"--vk", key, "--record", proof, proof}, 1, "record"},
		"development":       {[]string{"--vk", key, "--allow-development", proof}, 3, "key-unregistered"},
	} {
		code, out, complaint := call(t, c.args...)
		if code != c.code || !strings.Contains(out+complaint, c.says) || (code == 1 || code == 2) != (complaint != "") {
			t.Errorf("%s: %d %q %q", name, code, out, complaint)
		}
	}
}

func TestHelpNamesEveryReason(t *testing.T) {
	for _, r := range []refusal.Reason{ReasonMalformed, ReasonKeyUnknown, ReasonKeyMalformed, ReasonKeyUnregistered,
		ReasonKeyDevelopment, ReasonStatement, ReasonModel, ReasonProof, ReasonTimeout} {
		if !strings.Contains(usage, string(r)) {
			t.Errorf("the help does not name %s", r)
		}
	}
}
