// Package secretapi serves secrets of this guest to local scripts: GET /v1/secrets/{name}, which
// "anchorhold secret get" asks.
//
// Who may connect to the agent's socket gets nothing by that alone: the kernel's word on the peer's
// user and groups is held against what the configuration says of the secret. The bytes go from locked
// memory to the socket, past the buffers of the HTTP server. The package trusts [secrets.Store] to
// decide. The agent mounts it on its API.
package secretapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// VersionHeader says which version of the broker's store was answered.
const VersionHeader = "Anchorhold-Secret-Version"

// maxWait is the longest time in seconds that a request waits for a lease.
const maxWait = 290

// Mount serves the store's secrets on an API. The log says who got which.
func Mount(api *localapi.Server, store *secrets.Store, log *slog.Logger) {
	s := &service{api, store, log}
	api.Mount(localapi.Mount{
		Routes: []localapi.Route{{Method: "GET", Pattern: "/v1/secrets/{name}", Name: "secrets", Handle: s.show}},
		Status: func(reason refusal.Reason) int {
			if reason == secrets.ReasonNotAllowed {
				return http.StatusForbidden
			}
			return 0
		},
	})
}

type service struct {
	api   *localapi.Server
	store *secrets.Store
	log   *slog.Logger
}

// show answers with the secret, or refuses; with ?wait=SECONDS it waits for a lease first.
func (s *service) show(w http.ResponseWriter, r *http.Request) error {
	wait := 0
	if text := r.URL.Query().Get("wait"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxWait {
			return localapi.BadRequest("wait", "wait-invalid", fmt.Sprintf("wait must be 0 to %d seconds", maxWait))
		}
		wait = n
	}
	ctx, done := s.api.Bound(r.Context())
	defer done(nil)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(wait)*time.Second)
	defer cancel()
	name, uid := r.PathValue("name"), s.api.UID(r.Context())
	asker := secrets.Asker{Name: name, Peer: &secrets.Peer{UID: uid, In: s.api.Member(r.Context())}}
	if err := s.store.Await(ctx, asker); err != nil {
		reason, _ := refusal.ReasonOf(err)
		s.log.Warn("secret refused", "secret", fmt.Sprintf("%.64q", name), "uid", uid, "reason", string(reason), "err", err)
		return err
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	// From here on the connection is no longer the server's: who misses bytes that it was promised
	// sees that.
	var given secrets.Given
	err = s.store.Lend(asker, func(g secrets.Given, secret []byte) error {
		given = g
		return answer(conn, g, secret)
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		s.log.Warn("secret not sent", "secret", name, "uid", uid, "err", err)
		return nil
	}
	s.log.Info("secret handed on", "secret", given.Name, "uid", uid, "version", given.Version)
	return nil
}

// answer writes the whole response. Neither part waits for the peer: both fit the socket's buffer,
// unless the peer left earlier answers unread.
func answer(conn net.Conn, g secrets.Given, secret []byte) error {
	below, ok := listen.Of(conn).Conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no descriptor", conn)
	}
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\n%s: %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", VersionHeader, g.Version, len(secret))
	if err := secrets.Send(below, []byte(head)); err != nil {
		return err
	}
	return secrets.Send(below, secret)
}
