package credsock

import (
	"strings"

	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonPeer is the refusal of a connection that is not systemd's: not of root, or from an address
// that names neither a unit's credential nor a volume.
const ReasonPeer refusal.Reason = "credential-peer-invalid"

// maxAddress is the longest address of a unix socket (unix(7)).
const maxAddress = 108

// parseAddress reads the address that systemd binds: "@RANDOM/unit/UNIT/CREDENTIAL" or
// "@RANDOM/cryptsetup/VOLUME", where @ stands for the zero byte of abstract addresses and RANDOM is
// a hexadecimal number. Which names there are, the configuration knows; here they only have to be
// fit for a log.
func parseAddress(address string) (a secrets.Asker, err error) {
	bad := refusal.New(ReasonPeer, "the address %.120q names neither a unit's credential nor a volume", address)
	rest, abstract := strings.CutPrefix(address, "@")
	random, rest, ok := strings.Cut(rest, "/")
	if !abstract || !ok || len(address) > maxAddress || !isNumber(random) {
		return a, bad
	}
	kind, names, _ := strings.Cut(rest, "/")
	first, second, two := strings.Cut(names, "/")
	switch {
	case kind == "unit" && two && isName(first) && isName(second):
		return secrets.Asker{Unit: first, Credential: second}, nil
	case kind == "cryptsetup" && !two && isName(first):
		return secrets.Asker{Volume: first}, nil
	}
	return a, bad
}

// isNumber accepts what "%lx" prints.
func isNumber(s string) bool {
	return len(s) >= 1 && len(s) <= 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// isName accepts visible ASCII without a slash.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' })
}

// describe is who asks, for the journal: with fields of their own for what an administrator
// looks for.
func describe(a secrets.Asker) []any {
	if a.Volume != "" {
		return []any{"volume", a.Volume}
	}
	if a.Unit == "" {
		return nil
	}
	return []any{"unit", a.Unit, "credential", a.Credential}
}

// checkPeer refuses everybody but root, whose service manager asks.
func (s *Server) checkPeer(uid uint32, err error) error {
	if err != nil {
		return refusal.New(ReasonPeer, "the kernel does not say who connected: %w", err)
	}
	if uid != s.manager {
		return refusal.New(ReasonPeer, "user %d connected; only root's service manager is answered", uid)
	}
	return nil
}
