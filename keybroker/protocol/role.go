package protocol

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what an attested agent key may sign for. A lease certificate carries a set
// of them: the broker's policy gives them, no guest takes one (docs/protocol.md 15).
type Role uint16

// The roles. A certificate holds any of them together; what is verified needs one.
const (
	// RoleServe signs receipts of answers, of models whose keys the lease was granted.
	RoleServe Role = 1 << iota
	// RoleContribute signs contributions to federated rounds that name the guest.
	RoleContribute
	// RoleDecrypt opens the sum of a round whose key the lease was granted, and signs
	// its result.
	RoleDecrypt
	// RoleParty holds a part of a round's key together with others, and signs its
	// messages and shares.
	RoleParty

	allRoles = RoleServe | RoleContribute | RoleDecrypt | RoleParty
)

var roleNames = []struct {
	role Role
	name string
}{{RoleServe, "serve"}, {RoleContribute, "contribute"}, {RoleDecrypt, "decrypt"}, {RoleParty, "party"}}

// Roles are the names of all roles, in the order of their numbers.
func Roles() []string {
	names := make([]string, len(roleNames))
	for i, n := range roleNames {
		names[i] = n.name
	}
	return names
}

// ParseRole reads the name of one role.
func ParseRole(name string) (Role, error) {
	for _, n := range roleNames {
		if n.name == name {
			return n.role, nil
		}
	}
	return 0, fmt.Errorf("role %q is unknown (%s)", name, strings.Join(Roles(), ", "))
}

// ParseRoles joins roles by name, none twice.
func ParseRoles(names []string) (Role, error) {
	var roles Role
	for i, name := range names {
		r, err := ParseRole(name)
		if err != nil {
			return 0, err
		}
		if slices.Contains(names[:i], name) {
			return 0, fmt.Errorf("role %q is named twice", name)
		}
		roles |= r
	}
	return roles, nil
}

// Has says whether the set holds the one role that is asked for. Asking for none, or
// for several at once, is answered with no.
func (r Role) Has(one Role) bool { return one.single() && r&one != 0 }

func (r Role) single() bool { return r != 0 && r&allRoles == r && r&(r-1) == 0 }

// String returns the names of the roles, joined by commas, or "none".
func (r Role) String() string {
	var names []string
	for _, n := range roleNames {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}
