package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// startRegistry starts the broker with a registry on a port of its own.
func (d *proofDemo) startRegistry(ctx context.Context) (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	d.brokerExtra = fmt.Sprintf("proofs: {listen: %q, allow_development: true}\n", port)
	note, err := d.startBroker(ctx)
	d.registryAddress = port
	return note + "; proofs on " + port, err
}

// restart starts the agent anew with a configuration.
func (d *proofDemo) restart(ctx context.Context, config string) error {
	if err := d.agent.stop(); err != nil {
		return err
	}
	var err error
	if d.agent, err = start(d.dir, "agent", nil, filepath.Join(d.opt.bin, "anchorhold-agent"), "run", "--config", config); err != nil {
		return err
	}
	return d.agent.waitFor(ctx, "served classifier", 40*time.Second, func() bool {
		s, err := d.status(ctx, "agent")
		return err == nil && s.Agent.State == "serving"
	})
}

// audited is what the demo reads of an audit.
type audited struct {
	Challenge *struct {
		State string `json:"state"`
	} `json:"challenge"`
	Proof *struct {
		Outputs []int32 `json:"outputs"`
	} `json:"proof"`
}

// challenge has the broker draw two of five answers after they were given, by an agent
// that proves nothing unasked.
func (d *proofDemo) challenge(ctx context.Context) (string, error) {
	broker := []string{"--broker", d.path("operator.sock")}
	d.registry = d.registryAddress
	config, err := d.proverConfig("agent", "digits", "models/demo", "model.ahm", "keys", "on-demand", true)
	if err != nil {
		return "", err
	}
	if err := d.restart(ctx, config); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, append([]string{"proof", "register", d.path("keys")}, broker...)...); err != nil {
		return "", err
	}
	given := map[string]bool{}
	for i := range 5 {
		_, id, _, err := d.inferRow(ctx, i)
		if err != nil {
			return "", err
		}
		given[id] = true
	}
	var issued struct {
		Challenges []struct {
			Challenge struct {
				Receipts []string `json:"receipts"`
			} `json:"challenge"`
		} `json:"challenges"`
	}
	var drawn []string
	err = d.agent.waitFor(ctx, "announced receipts", 30*time.Second, func() bool {
		var st struct {
			Waiting int `json:"waiting"`
		}
		out, err := d.tool(ctx, append([]string{"proof", "status", "--json"}, broker...)...)
		return err == nil && json.Unmarshal(out, &st) == nil && st.Waiting >= len(given)
	})
	if err != nil {
		return "", err
	}
	out, err := d.tool(ctx, append([]string{"proof", "challenge", "--all", "--count", "2", "--within", "10m", "--json"}, broker...)...)
	if err == nil {
		err = json.Unmarshal(out, &issued)
	}
	if err != nil {
		return "", err
	}
	for _, c := range issued.Challenges {
		drawn = append(drawn, c.Challenge.Receipts...)
	}
	if len(drawn) != 2 || !given[drawn[0]] || !given[drawn[1]] {
		return "", fmt.Errorf("the broker drew %q", drawn)
	}
	var a audited
	for _, id := range drawn {
		if err := d.agent.waitFor(ctx, "answered challenge", time.Minute, func() bool {
			out, err := d.tool(ctx, append([]string{"proof", "audit", id, "--json"}, broker...)...)
			a = audited{}
			return err == nil && json.Unmarshal(out, &a) == nil && a.Proof != nil
		}); err != nil {
			return "", err
		}
	}
	if a.Challenge == nil || a.Challenge.State != "answered" || a.Proof.Outputs != nil { // an operator has no salt
		return "", fmt.Errorf("the audit of %s shows %+v", drawn[1], a)
	}
	text, err := d.tool(ctx, append([]string{"proof", "audit", drawn[1]}, broker...)...)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(text), "none yet") {
		return "", errors.New("the audit shows no proof")
	}
	if err := d.auditWithSalt(ctx, drawn[1], broker); err != nil {
		return "", err
	}
	d.registry = ""
	return "2 of 5 drawn by the broker after all five were given, proven and handed in:\n" + strings.TrimSpace(string(text)), os.Remove(config)
}

// auditWithSalt audits an answer as somebody to whom its client gave the salts.
func (d *proofDemo) auditWithSalt(ctx context.Context, id string, broker []string) error {
	held, err := d.tool(ctx, "receipt", "get", id, "--agent", d.path("agent.sock"))
	if err != nil {
		return err
	}
	file := d.path("audited.receipt.json")
	if err := os.WriteFile(file, held, 0o600); err != nil {
		return err
	}
	out, err := d.tool(ctx, append([]string{"proof", "audit", id, "--salts", file, "--json"}, broker...)...)
	if err != nil {
		return err
	}
	var a audited
	if err := json.Unmarshal(out, &a); err != nil || a.Proof == nil || a.Proof.Outputs == nil {
		return fmt.Errorf("the audit of %s with its salts shows %+v: %w", id, a, err)
	}
	return nil
}
