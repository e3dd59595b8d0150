package operator

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

const (
	actionSecretChanged = "secret-changed"
	secretGroups        = 16 // what one query finds is bounded, and there may be many secrets
)

// SecretRecord is what the audit log says became of one version of a secret, after it did:
// of a store that was put back from a copy it tells what is missing.
type SecretRecord struct {
	SecretVersion
	State keystore.State
}

// SecretQueries find every SecretRecord from one record of the log on.
func SecretQueries(from uint64) []audit.Query {
	list := make([]audit.Query, secretGroups)
	for i := range list {
		list[i] = audit.Query{Kind: audit.KindService, Action: actionSecretChanged, Resource: secretGroup(i), From: from}
	}
	return list
}

func secretGroup(i int) string { return fmt.Sprintf("secrets/%x", i) }

// ParseSecretRecord reads a record that one of SecretQueries found, and refuses any other.
func ParseSecretRecord(r audit.Record) (out SecretRecord, err error) {
	if r.Kind != audit.KindService || r.Action != actionSecretChanged {
		return out, fmt.Errorf("a record of kind %s, action %q, is not about a secret", r.Kind, r.Action)
	}
	state, name, _ := strings.Cut(r.Detail, " ")
	out.Name, out.Version = name, r.ResourceVersion
	if err = out.State.UnmarshalText([]byte(state)); err == nil {
		err = keystore.CheckName(name)
	}
	return out, err
}

// secretChanged has the log say what the store has done, whether or not who asked still waits.
func (r *request) secretChanged(state keystore.State, version uint64) error {
	sum := sha256.Sum256([]byte(r.resource))
	_, err := r.s.opts.Audit.Append(context.WithoutCancel(r.Context()), audit.Record{Kind: audit.KindService, Time: r.s.opts.Now(), Action: actionSecretChanged,
		Resource: secretGroup(int(sum[0]) % secretGroups), ResourceVersion: version, Detail: state.String() + " " + r.resource})
	if err != nil {
		return &Error{http.StatusServiceUnavailable, "audit-unavailable", fmt.Sprintf("%s version %d is %s now, but the audit log does not say so: %v", r.resource, version, state, err)}
	}
	return nil
}
