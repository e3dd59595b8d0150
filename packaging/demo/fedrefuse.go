package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
)

// refuseReplay sends participant 2's signed contribution to the first round once more, as
// somebody who copied it can: who shows no lease hands over nothing.
func (d *fedDemo) refuseReplay(ctx context.Context) (string, error) {
	manifest, err := os.ReadFile(filepath.Join(d.guestDir(2), "jobs", "uploads", d.rounds[0]+".manifest"))
	if err != nil {
		return "", err
	}
	client, err := d.uplink()
	if err != nil {
		return "", err
	}
	defer client.Close()
	old, err := digest.ParseID[digest.Round](d.rounds[0])
	if err != nil {
		return "", err
	}
	_, err = client.Send(ctx, old, manifest, nil, nil, 1, nil)
	return refused(err, "client-identity-missing")
}

// uplink speaks with the aggregator as anybody can who has its certificate.
func (d *deployment) uplink() (*uplink.Client, error) {
	pem, err := os.ReadFile(d.path("aggregator.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate")
	}
	cfg, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
	if err != nil {
		return nil, err
	}
	return uplink.New(d.address, cfg, nil, nil), nil
}

// refuseKeys asks for keys that must not leave: the decrypting guest for that of the
// open round, and a participant that would decrypt a closed one.
func (d *fedDemo) refuseKeys(ctx context.Context) (string, error) {
	open, closed := d.rounds[len(d.rounds)-1], d.rounds[plainRounds-1]
	_, err := d.tool(ctx, "fed", "decrypt", open, "--wait", "--agent", d.socket(d.decryptor()))
	first, err := refused(err, "round-not-closed")
	if err != nil {
		return "", err
	}
	_, err = d.tool(ctx, "fed", "decrypt", closed, "--wait", "--agent", d.socket(0))
	if err == nil {
		return "", errors.New("a participant decrypted a round")
	}
	second, err := refused(err, "client-not-named")
	return fmt.Sprintf("the open round: %s\na participant, which the round does not let see its sum: %s", first, second), err
}
