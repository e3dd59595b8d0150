package settings

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// secretsOnly is an agent that serves nothing itself.
var secretsOnly = strings.Replace(whole, `models:
  - {name: demo, path: demo.ahm, resource: models/demo, publisher: publisher.pub}
`, "", 1)

func TestAnAgentWithSecretsAloneIsRunnable(t *testing.T) {
	if _, findings, err := Parse([]byte(secretsOnly)); err != nil || findings.Runnable() == nil {
		t.Fatalf("an agent with nothing to do: %v", err)
	}
	cfg, findings, err := Parse([]byte(secretsOnly + `secrets:
  - {name: tls.key, resource: secrets/web-tls, units: [nginx.service, "vhost@a.service"], users: [root], groups: ["7"]}
  - {name: mail, credential: tls.key, resource: secrets/mail, units: [postfix.service]}
  - {name: data, resource: volumes/data, volumes: [data]}
credentials: {wait_seconds: 10, headers: /run/headers}
`))
	if err != nil || findings.Runnable() != nil || len(findings.Notices) != 0 {
		t.Fatalf("%v, %v, notices %q", err, findings.Runnable(), findings.Notices)
	}
	if got := cfg.Resources(); !slices.Equal(got, []string{"secrets/mail", "secrets/web-tls", "volumes/data"}) {
		t.Errorf("asks for %q", got)
	}
	if cfg.Credentials.Wait() != 10*time.Second || (Credentials{}).Wait() != time.Minute || cfg.Credentials.HeaderOf("data") != "/run/headers/data.header" || (Credentials{}).HeaderOf("x") != "/run/anchorhold-volumes/x.header" {
		t.Errorf("%+v", cfg.Credentials)
	}
	var out bytes.Buffer
	if code := findings.Print(&out, "x.yaml"); code != 0 || !strings.Contains(out.String(), "handed on: tls.key (secrets/web-tls): units nginx.service vhost@a.service, users root, groups 7\n") {
		t.Errorf("%d: %s", code, out.String())
	}
}

// TestEachSecretIsRefusedAlone: in each file one thing is wrong.
func TestEachSecretIsRefusedAlone(t *testing.T) {
	one := func(fields string) string { return "secrets:\n  - {" + fields + "}\n" }
	const good = "name: a, resource: secrets/a, units: [a.service]"
	two := func(second string) string { return one(good) + "  - {" + second + "}\n" }
	long := strings.Repeat("x", 65)
	var many strings.Builder
	many.WriteString("secrets:\n")
	for i := range 17 {
		fmt.Fprintf(&many, "  - {name: n%d, resource: secrets/n%d, users: [root]}\n", i, i)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"no name":             {one("resource: secrets/a, users: [root]"), "secrets[0].name"},
		"a path as a name":    {one("name: a/b, resource: secrets/a, users: [root]"), "secrets[0].name"},
		"a dot first":         {one("name: ..a, resource: secrets/a, users: [root]"), "secrets[0].name"},
		"a long name":         {one("name: " + long + ", resource: secrets/a, users: [root]"), "secrets[0].name"},
		"a credential's name": {one(good + ", credential: \"a:b\""), "secrets[0].credential"},
		"no resource":         {one("name: a, users: [root]"), "secrets[0].resource"},
		"a model's key":       {one("name: a, resource: models/a, users: [root]"), "below secrets/ or volumes/"},
		"a malformed one":     {one("name: a, resource: secrets/../a, users: [root]"), "secrets[0].resource"},
		"a pattern":           {one("name: a, resource: secrets/a, units: [\"*.service\"]"), "secrets[0].units"},
		"no kind of unit":     {one("name: a, resource: secrets/a, units: [nginx]"), "secrets[0].units"},
		"a timer":             {one("name: a, resource: secrets/a, units: [a.timer]"), "secrets[0].units"},
		"a template":          {one("name: a, resource: secrets/a, units: [\"a@.service\"]"), "secrets[0].units"},
		"a slash":             {one("name: a, resource: secrets/a, units: [a/b.service]"), "secrets[0].units"},
		"a long unit":         {one("name: a, resource: secrets/a, units: [" + strings.Repeat("u", 83-len(".service")) + ".service]"), "too long together"},
		"a volume's name":     {one("name: a, resource: secrets/a, volumes: [a/b]"), "secrets[0].volumes"},
		"too many units":      {one("name: a, resource: secrets/a, units: [" + strings.Repeat("a.service, ", 64) + "b.service]"), "at most 64"},
		"no such user":        {one("name: a, resource: secrets/a, users: [nobody-of-this-name]"), "there is no user"},
		"no such group":       {one("name: a, resource: secrets/a, groups: [nobody-of-this-name]"), "there is no group"},
		"a name twice":        {two("name: a, resource: secrets/b, units: [b.service]"), "the secret a is there twice"},
		"a credential twice":  {two("name: b, credential: a, resource: secrets/b, units: [a.service]"), "the credential a.service/a is there twice"},
		"a unit twice":        {one("name: a, resource: secrets/a, units: [a.service, a.service]"), "is there twice"},
		"a volume twice":      {one("name: a, resource: volumes/a, volumes: [a]") + "  - {name: b, resource: volumes/b, volumes: [a]}\n", "the volume a is there twice"},
		"too many":            {many.String(), "need 17 keys together"},
		"a wait":              {one(good) + "credentials: {wait_seconds: 291}\n", "credentials.wait_seconds"},
		"a negative wait":     {one(good) + "credentials: {wait_seconds: -1}\n", "credentials.wait_seconds"},
		"a long path":         {one(good) + "credentials: {socket: /" + strings.Repeat("s", 107) + "}\n", "credentials.socket"},
		"a relative path":     {one(good) + "credentials: {headers: run}\n", "credentials.headers"},
	} {
		_, findings, err := Parse([]byte(secretsOnly + tc.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(findings.Errors) != 1 || !strings.Contains(findings.Errors[0], tc.want) {
			t.Errorf("%s: got %q, want one error with %q", name, findings.Errors, tc.want)
		}
	}
	for name, tc := range map[string]struct{ text, want string }{
		"for nobody":  {one("name: a, resource: secrets/a"), "is handed to nobody"},
		"a long wait": {one(good) + "credentials: {wait_seconds: 86}\n", "TimeoutStartSec="},
	} {
		_, findings, err := Parse([]byte(secretsOnly + tc.text))
		if err != nil || findings.Runnable() != nil || len(findings.Notices) != 1 || !strings.Contains(findings.Notices[0], tc.want) {
			t.Errorf("%s: %v, %v, notices %q", name, err, findings.Runnable(), findings.Notices)
		}
	}
	if _, findings, err := Parse([]byte(secretsOnly + one("name: a, resource: secrets/a, units: ["+strings.Repeat("u", 82-len(".service"))+".service]"))); err != nil || findings.Runnable() != nil {
		t.Errorf("the longest: %v, %v", err, findings.Errors)
	}
}
