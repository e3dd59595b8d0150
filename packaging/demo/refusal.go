package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// refusedAgent starts an agent that must not serve, and returns its log line
// that holds the words.
func (d *demo) refusedAgent(ctx context.Context, name, model, measurement string, words ...string) (line string, err error) {
	agent, err := d.runAgent(name, model, measurement, d.memoryMB)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, agent.stop()) }()
	err = agent.waitFor(ctx, "refusal", 30*time.Second, func() bool {
		line = agent.log.line(words...)
		return line != ""
	})
	if err != nil {
		return "", err
	}
	if out, chatErr := d.tool(ctx, "chat", "--agent", d.path(name+".sock"), "--model", "demo", "hello"); chatErr == nil {
		return "", fmt.Errorf("the refused agent answered: %s", out)
	} else if !strings.Contains(chatErr.Error(), "attesting") && !strings.Contains(chatErr.Error(), "model-unavailable") {
		return "", fmt.Errorf("the refused agent's client got a different error: %w", chatErr)
	}
	return line, nil
}

func (d *demo) refuseMeasurement(ctx context.Context) (string, error) {
	const reason = "measurement-not-allowed"
	before, err := d.auditEntries(ctx)
	if err != nil {
		return "", err
	}
	line, err := d.refusedAgent(ctx, "other-image", d.path("model.ahm"), otherMeasurement, reason)
	if err != nil {
		return "", err
	}
	after, err := d.auditEntries(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range after[len(before):] {
		if strings.Contains(e.Record.Kind, "release") || e.Record.Decision == "allowed" {
			return "", fmt.Errorf("record %d says that a key was released", e.Index)
		}
	}
	return fmt.Sprintf("agent:  %s\nbroker: refused with %s, recorded, nothing released", message(line), reason), nil
}

func (d *demo) refuseFlippedBit(ctx context.Context) (string, error) {
	data, err := os.ReadFile(d.path("model.ahm"))
	if err != nil {
		return "", err
	}
	data[len(data)/2] ^= 1 << 3
	damaged := d.path("damaged.ahm")
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		return "", err
	}
	line, err := d.refusedAgent(ctx, "damaged", damaged, goodMeasurement, "model cannot be opened", "chunk")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("agent:  %s\nclient: model-unavailable, nothing served", message(line)), nil
}

func (d *demo) refuseClassical(ctx context.Context) (string, error) {
	pem, err := os.ReadFile(d.path("broker", "tls.crt"))
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	cfg, err := hybridtls.ClientConfig("127.0.0.1", roots, hybridtls.ProfileDefault)
	if err != nil {
		return "", err
	}
	cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} // as a client of last year
	conn, err := hybridtls.Dial(ctx, "tcp", d.brokerAddress, cfg)
	if err == nil {
		return "", errors.Join(errors.New("a classical client could connect"), conn.Close())
	}
	refused, ok := errors.AsType[*refusal.Error](err)
	if !ok || refused.Reason != hybridtls.ReasonClassical {
		return "", fmt.Errorf("the classical client got a different error: %w", err)
	}
	line := ""
	err = d.broker.waitFor(ctx, "message about the classical client", 5*time.Second, func() bool {
		line = d.broker.log.line("classical-key-exchange")
		return line != ""
	})
	return fmt.Sprintf("client: %s\nbroker: %s", refused.Detail, message(line)), err
}

// message is a log line without its time stamp, cut where a reader would stop.
func message(line string) string {
	if _, rest, ok := strings.Cut(line, " level="); ok {
		line = "level=" + rest
	}
	if len(line) > 420 {
		line = line[:420] + "..."
	}
	return line
}
