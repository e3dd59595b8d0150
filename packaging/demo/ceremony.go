package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/runtime/quantize"
)

// holdCeremony has three parties make keys for the architecture of a second classifier,
// of breast cancer data.
func (d *proofDemo) holdCeremony(ctx context.Context) (string, error) {
	if _, err := d.tool(ctx, "seal", d.model("cancer.onnx"), "--calibration", d.model("cancer.calibration.npy"), "--out", d.path("cancer.ahm"), "--key", d.path("model.key"),
		"--publisher", d.path("publisher.key"), "--credential-file", d.path("publisher.credential"), "--name", "cancer", "--model-version", "1"); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "secret", "put", "models/cancer", "--file", d.path("model.key"), "--model", d.path("cancer.ahm"), "--broker", d.path("operator.sock")); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "proof", "ceremony", "begin", d.path("cancer.ahm"), "--key", d.path("model.key"), "--publisher", d.path("publisher.key.pub"), "--out", d.path("ceremony")); err != nil {
		return "", err
	}
	for phase := range 2 {
		for _, name := range []string{"Alice", "Bob", "Carol"} {
			if _, err := d.tool(ctx, "proof", "ceremony", "contribute", d.path("ceremony"), "--name", name); err != nil {
				return "", err
			}
		}
		// A real beacon is randomness that was named in advance and came later.
		if _, err := d.tool(ctx, "proof", "ceremony", "end", d.path("ceremony"), "--beacon", strings.Repeat(fmt.Sprintf("%02x", 0xb0+phase), 32)); err != nil {
			return "", err
		}
	}
	out, err := d.tool(ctx, "proof", "ceremony", "keys", d.path("ceremony"), "--out", d.path("ceremony-keys"), "--json")
	if err != nil {
		return "", err
	}
	var state struct {
		Transcript string `json:"transcript"`
	}
	if err := json.Unmarshal(out, &state); err != nil {
		return "", err
	}
	return "Alice, Bob and Carol in both phases, beacons, transcript " + state.Transcript[:16] + "..., verified and keys derived from it", nil
}

// proveWithCeremony proves one answer with an agent that has the ceremony's keys and
// allows no others.
func (d *proofDemo) proveWithCeremony(ctx context.Context) (string, error) {
	config, err := d.proverConfig("agent", "cancer", "models/cancer", "cancer.ahm", "ceremony-keys", "all", false)
	if err != nil {
		return "", err
	}
	rows, err := quantize.ReadRows(d.model("cancer.test.npy"))
	if err != nil {
		return "", err
	}
	if err := d.restart(ctx, config); err != nil {
		return "", err
	}
	_, id, _, err := d.infer(ctx, "cancer", rows.Row(0))
	if err != nil {
		return "", err
	}
	if err := d.agent.waitFor(ctx, "proof "+id, time.Minute, func() bool {
		var proof json.RawMessage
		return d.call(ctx, http.MethodGet, "/v1/proofs/"+id, nil, &proof) == nil
	}); err != nil {
		return "", err
	}
	file := d.path("ceremony.proof.json")
	if _, err := d.tool(ctx, "proof", "show", id, "--out", file, "--agent", d.path("agent.sock")); err != nil {
		return "", err
	}
	out, err := d.tool(ctx, "proof", "verify", "--keys", d.path("ceremony-keys"), "--root", d.path("root.key.pub"), "--accept-software-tee", file)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(out), "development") {
		return "", errors.New("the ceremony's keys count as development")
	}
	return "by an agent that allows no development keys; verified without allowing them", nil
}
