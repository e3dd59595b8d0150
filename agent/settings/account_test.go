package settings

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/systemd/config"
)

func TestAccountsAreNamesOrNumbers(t *testing.T) {
	var s Socket
	if err := config.Decode([]byte("allowed_users: [root, 1000]\nallowed_groups: [root, \"7\"]\n"), &s); err != nil {
		t.Fatal(err)
	}
	uids, gids, err := s.Allowed()
	if err != nil || !slices.Equal(uids, []uint32{0, 1000}) || !slices.Equal(gids, []uint32{0, 7}) {
		t.Errorf("%v %v %v", uids, gids, err)
	}
	for _, text := range []string{"allowed_users: [\"a b\"]", "allowed_users: [-1]", "allowed_groups: [\"\"]", "allowed_gids: [1]"} {
		if err := config.Decode([]byte(text+"\n"), new(Socket)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	for _, bad := range []Socket{{AllowedUsers: []Account{"nobody-has-this-name"}}, {AllowedGroups: []Account{"no-group-of-this-name"}}, {AllowedUsers: []Account{"4294967296"}}} {
		if _, _, err := bad.Allowed(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// Without a word the members of one group may, where the machine has it.
func TestWhoMayConnectWithoutAWord(t *testing.T) {
	uids, gids, err := Socket{}.Allowed()
	groups, readErr := os.ReadFile("/etc/group")
	if readErr != nil {
		t.Skipf("SKIPPED: %v", readErr)
	}
	want := 0
	if strings.Contains("\n"+string(groups), "\n"+string(ClientGroup)+":") {
		want = 1
	}
	if err != nil || len(uids) != 0 || len(gids) != want {
		t.Errorf("%v %v %v, want %d groups", uids, gids, err, want)
	}
}
