package settings

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// Account is the name of a user or group of this machine, or its number.
type Account string

// isAccount says whether useradd(8) takes a name, or whether it is a number of up to ten
// digits.
func isAccount(text string) bool {
	if len(text) < 1 || len(text) > 32 {
		return false
	}
	if strings.Trim(text, "0123456789") == "" {
		return len(text) <= 10
	}
	for i, c := range []byte(text) {
		if !(c >= 'a' && c <= 'z' || c == '_' || i > 0 && (c >= '0' && c <= '9' || c == '-')) {
			return false
		}
	}
	return true
}

// UnmarshalText reads a name or a number.
func (a *Account) UnmarshalText(text []byte) error {
	if !isAccount(string(text)) {
		return fmt.Errorf("%.40q is neither the name nor the number of a user or group", text)
	}
	*a = Account(text)
	return nil
}

// UID is the user's number. A name that this machine does not have is an error.
func (a Account) UID() (uint32, error) {
	return a.number("user", func() (string, error) {
		u, err := user.Lookup(string(a))
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

// GID is the group's number.
func (a Account) GID() (uint32, error) {
	return a.number("group", func() (string, error) {
		g, err := user.LookupGroup(string(a))
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func (a Account) number(kind string, lookUp func() (string, error)) (uint32, error) {
	text := string(a)
	if text == "" || text[0] < '0' || text[0] > '9' {
		found, err := lookUp()
		if err != nil {
			return 0, fmt.Errorf("there is no %s %q on this machine: %w", kind, text, err)
		}
		text = found
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s %s: not a 32-bit number", kind, text)
	}
	return uint32(n), nil
}

// ClientGroup is the group whose members may connect where the file names nobody:
// anchorhold.sysusers makes it, and the socket unit gives the socket to it.
const ClientGroup Account = "anchorhold"

// Allowed are the users and groups that may connect, beside root and the agent's own
// user, which always may: both can read the agent's files anyway.
func (s Socket) Allowed() (uids, gids []uint32, err error) {
	groups := s.AllowedGroups
	if len(s.AllowedUsers)+len(s.AllowedGroups) == 0 {
		if gid, err := ClientGroup.GID(); err == nil {
			return nil, []uint32{gid}, nil
		}
		return nil, nil, nil // a machine without it: root and the agent's user
	}
	var errs []error
	for _, a := range s.AllowedUsers {
		uid, err := a.UID()
		uids, errs = append(uids, uid), append(errs, err)
	}
	for _, a := range groups {
		gid, err := a.GID()
		gids, errs = append(gids, gid), append(errs, err)
	}
	return uids, gids, errors.Join(errs...)
}
