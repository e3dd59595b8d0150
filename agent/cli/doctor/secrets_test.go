package doctor

import (
	"strings"
	"testing"
)

// TestThoseWhoMayHaveSecretsAskForThem: the unit is there, loads the credential from the agent's socket, and that is enabled.
func TestThoseWhoMayHaveSecretsAskForThem(t *testing.T) {
	const agent = "etc/anchorhold/agent.yaml"
	good := map[string]string{
		agent: `secrets:
  - {name: tls.key, resource: secrets/web-tls, units: [nginx.service, site@one.service]}
  - {name: data, resource: volumes/data, volumes: [data]}
  - {name: db, resource: secrets/db, users: [backup]}
`,
		"usr/lib/systemd/system/nginx.service":                                  "[Service]\nExecStart=/usr/sbin/nginx\n",
		"etc/systemd/system/nginx.service.d/anchorhold.conf":                    "[Service]\nLoadCredential=tls.key:/run/anchorhold/credentials.sock\n",
		"usr/lib/systemd/system/site@.service":                                  "[Service]\n LoadCredential=tls.key:/run/anchorhold/credentials.sock\n",
		"etc/crypttab":                                                          "# name device key\ndata /dev/vdb /run/anchorhold/credentials.sock luks,_netdev\n",
		"etc/systemd/system/sockets.target.wants/anchorhold-credentials.socket": "",
	}
	for name, c := range map[string]struct {
		change        map[string]string
		verdict, says string
	}{
		"all there":                 {nil, "ok", "3 handed on"},
		"no configuration":          {map[string]string{agent: "-"}, "ok", "none is handed on"},
		"no secrets":                {map[string]string{agent: "secrets: []\n"}, "ok", "none is handed on"},
		"no words of the agent":     {map[string]string{agent: "secretz: []\n"}, "note", "is not understood"},
		"no unit":                   {map[string]string{"usr/lib/systemd/system/nginx.service": "-"}, "lacking", "nginx.service may have the secret tls.key, and there is no such unit"},
		"no template":               {map[string]string{"usr/lib/systemd/system/site@.service": "-"}, "lacking", "site@one.service may have the secret tls.key, and there is no such unit"},
		"no drop-in":                {map[string]string{"etc/systemd/system/nginx.service.d/anchorhold.conf": "-"}, "lacking", "nginx.service may have the secret tls.key, and does not ask for it"},
		"under another name":        {map[string]string{"etc/systemd/system/nginx.service.d/anchorhold.conf": "LoadCredential=tls:/run/anchorhold/credentials.sock\n"}, "lacking", "does not ask"},
		"from elsewhere":            {map[string]string{"etc/systemd/system/nginx.service.d/anchorhold.conf": "LoadCredential=tls.key:/etc/tls.key\n"}, "lacking", "does not ask"},
		"forgotten again":           {map[string]string{"etc/systemd/system/nginx.service.d/later.conf": "LoadCredential=\n"}, "lacking", "does not ask"},
		"in a comment":              {map[string]string{"etc/systemd/system/nginx.service.d/anchorhold.conf": "#LoadCredential=tls.key:/run/anchorhold/credentials.sock\n"}, "lacking", "does not ask"},
		"masked by the first":       {map[string]string{"etc/systemd/system/site@.service": "[Service]\n"}, "lacking", "site@one.service may have the secret tls.key, and does not ask"},
		"no crypttab":               {map[string]string{"etc/crypttab": "-"}, "note", "the volume data may have the secret data"},
		"another volume":            {map[string]string{"etc/crypttab": "other /dev/vdb /run/anchorhold/credentials.sock luks\n"}, "note", "the volume data"},
		"another key":               {map[string]string{"etc/crypttab": "data /dev/vdb none luks\n"}, "note", "the volume data"},
		"the socket is not enabled": {map[string]string{"etc/systemd/system/sockets.target.wants/anchorhold-credentials.socket": "-"}, "note", "anchorhold-credentials.socket is not enabled"},
	} {
		files := map[string]string{}
		for path, text := range good {
			files[path] = text
		}
		for path, text := range c.change {
			if files[path] = text; text == "-" {
				delete(files, path)
			}
		}
		list := examineSecrets(tree(t, files))
		if len(list) != 1 || list[0].Verdict != c.verdict || !strings.Contains(list[0].Found, c.says) || (list[0].Advice == "") != (c.verdict == "ok") {
			t.Errorf("%s: %+v, want %s with %q", name, list, c.verdict, c.says)
		}
	}
	own := tree(t, map[string]string{agent: "secrets: [{name: a, resource: secrets/a, units: [a.service]}]\ncredentials: {socket: /run/other.sock}\n",
		"usr/lib/systemd/system/a.service": "[Service]\nLoadCredential=a:/run/other.sock\n"})
	if list := examineSecrets(own); len(list) != 1 || list[0].Verdict != "ok" {
		t.Errorf("a socket of the agent's own: %+v", list)
	}
}
